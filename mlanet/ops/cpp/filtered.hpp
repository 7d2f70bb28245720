// Filtered sums of neighbours' scalars and vectors, λ = W b(d), and their gradients; see mlanet/ops/filtered_sum.py.
//
// Sent by an atom: scalars s, arrows a and, if there are vectors, v_x, v_y, v_z; R = 2 or 5 rows of C channels.
// Received: m and w_x, w_y, w_z; 4 rows.
#pragma once
#include "radial.hpp"

namespace mlanet {

struct FilterSizes {
    int64_t centers, atoms, channels, functions, vectors, threads;
};

template <class T, int P> struct FilterInputs {
    Array<T, P> sent, basis, direction;
};

// Gradients; those of senders and weights in a place of each thread's own. `received` only for duals.
template <class T> struct FilterSums {
    T *received, *sent, *basis, *direction, *weight;
};

template <class T, int P> class FilteredSum {
  public:
    static constexpr int W = Lanes<T>::width, RECEIVED = 4;
    using Scalar = Number<T, P>;
    using Lane = Number<Vector<T>, P>;

    FilteredSum(const FilterSizes& sizes, const FilterInputs<T, P>& given, const RadialWeights<T>& weights,
                const Graph& graph)
        : s(sizes), in(given), network_(weights), graph_(graph),
          row_(rounded_up(sizes.functions, W)), sent_rows_(sizes.vectors ? 5 : 2) {}

    // (4, C) at `out`, which holds zeros.
    void value(int64_t i, T* out) {
        for (int64_t first = graph_.start[i]; first < graph_.start[i + 1];) {
            const int64_t rows = next(first, graph_.start[i + 1]);
            weigh(rows, out);
        }
    }

    // Gradients of <up, received>, up (4, C); for dual numbers their derivatives, and that of what is received.
    void gradient(int64_t i, const T* up, const FilterSums<T>& to) {
        for (int64_t first = graph_.start[i]; first < graph_.start[i + 1];) {
            const int64_t before = first, rows = next(first, graph_.start[i + 1]);
            std::fill(to.basis + before * s.functions, to.basis + first * s.functions, T(0));
            std::fill(to.direction + before * 3, to.direction + first * 3, T(0));
            if constexpr (P == 2) weigh(rows, to.received + i * RECEIVED * s.channels);
            for (int64_t k = 0; k < rows; ++k) weigh_back(k, up, to);
            for (int64_t k = 0; k < rows * row_; k += W) to_basis.store(k, Lane{});
            network_.backward(rows, basis, row_, filter, to_basis, row_, to.weight ? &to.weight : nullptr);
            for (int64_t k = 0; k < rows; ++k)
                for (int64_t b = 0; b < s.functions; ++b)
                    to.basis[edge_[k] * s.functions + b] = result(to_basis.at(k * row_ + b));
        }
    }

  private:
    const FilterSizes& s;
    const FilterInputs<T, P>& in;
    RadialNetwork<T, P> network_;
    const Graph& graph_;
    int64_t row_, sent_rows_, edge_[CHUNK];
    Store<T, P> basis_, to_basis_, filter_;
    Array<T, P> basis{}, to_basis{}, filter{};

    // An edge whose basis is 0 is absent.
    bool present(int64_t e) const {
        for (int64_t b = 0; b < s.functions; ++b)
            if (in.basis.v[e * s.functions + b] != 0) return true;
        return false;
    }

    // The next edges and their filters.
    int64_t next(int64_t& first, int64_t last) {
        basis = basis_.take(CHUNK * row_), to_basis = to_basis_.take(CHUNK * row_);
        filter = filter_.take(CHUNK * network_.row());
        int64_t rows = 0;
        for (; first < last && rows < CHUNK; ++first) {
            if (!present(first)) continue;
            for (int64_t b = 0; b < row_; ++b)
                basis.set(rows * row_ + b, b < s.functions ? in.basis.at(first * s.functions + b) : Scalar{});
            edge_[rows++] = first;
        }
        network_.forward(rows, basis, row_, filter);
        return rows;
    }

    Array<T, P> sent_to(int64_t k, int64_t c) const { return in.sent + graph_.neighbor[edge_[k]] * sent_rows_ * s.channels + c; }

    void weigh(int64_t rows, T* out) {
        for (int64_t c = 0; c < s.channels; c += W) {
            Lane sum[RECEIVED] = {};
            for (int64_t k = 0; k < rows; ++k) {
                const Array<T, P> sent = sent_to(k, c), by = filter + (k * network_.row() + c);
                sum[0] += by.load(0) * sent.load(0);
                const Lane arrow = by.load(s.channels) * sent.load(s.channels);
                for (int x = 0; x < 3; ++x) {
                    sum[x + 1] += scaled<T>(arrow, in.direction.at(edge_[k] * 3 + x));
                    if (s.vectors) sum[x + 1] += by.load(2 * s.channels) * sent.load((2 + x) * s.channels);
                }
            }
            for (int m = 0; m < RECEIVED; ++m) add(out + m * s.channels + c, sum[m]);
        }
    }

    // The filters of one edge give way to their gradients.
    void weigh_back(int64_t k, const T* up, const FilterSums<T>& to) {
        Lane to_direction[3] = {};
        T* to_sent = to.sent + graph_.neighbor[edge_[k]] * sent_rows_ * s.channels;
        for (int64_t c = 0; c < s.channels; c += W, to_sent += W) {
            const Array<T, P> sent = sent_to(k, c), by = filter + (k * network_.row() + c);
            const Lane scalar = by.load(0), arrow = by.load(s.channels), there = sent.load(s.channels);
            const Vector<T> to_scalar = load<T>(up + c);
            Lane along{}, carried{};
            for (int x = 0; x < 3; ++x) {
                const Vector<T> above = load<T>(up + (x + 1) * s.channels + c);
                along += scaled<T>(constant(above), in.direction.at(edge_[k] * 3 + x));
                to_direction[x] += arrow * there * above;
                if (!s.vectors) continue;
                carried += sent.load((2 + x) * s.channels) * above;
                add(to_sent + (2 + x) * s.channels, by.load(2 * s.channels) * above);
            }
            add(to_sent, scalar * to_scalar);
            add(to_sent + s.channels, arrow * along);
            by.store(0, sent.load(0) * to_scalar);
            by.store(s.channels, there * along);
            if (s.vectors) by.store(2 * s.channels, carried);
        }
        for (int x = 0; x < 3; ++x) to.direction[edge_[k] * 3 + x] = total<T>(result(to_direction[x]));
    }

    static Lane constant(Vector<T> x) {
        if constexpr (P == 2) return {x, Vector<T>{}};
        else return x;
    }
    template <class X> static INLINE void add(T* to, X x) { store<T>(to, load<T>(to) + result(x)); }
};

}  // namespace mlanet
