// The first look at the directions around an atom, h_i^l = f Σ_j u φ_l(RBF) s_j Y_l for l > 0, and its gradient.
#pragma once
#include "radial.hpp"

namespace mlanet {

struct DirectionSizes {
    int64_t centers, atoms, channels, functions, depth, widths[MAX_DEPTH + 1];
    double factor;
    int64_t threads;
};

template <class T, int P> struct DirectionInputs {
    Array<T, P> sender, envelope, radial, harmonics;
};

// Gradients; those of senders and weights in a place of each thread's own, or nowhere.
template <class T> struct DirectionSums {
    T *message, *sender, *envelope, *radial, *harmonics, *mlp[MAX_DEPTH];
};

template <class T, int L, int P> class Directions {
  public:
    static constexpr int W = Lanes<T>::width, M = (L + 1) * (L + 1);  // rows of harmonics; the first is not used
    using Scalar = Number<T, P>;
    using Lane = Number<Vector<T>, P>;

    Directions(const DirectionSizes& sizes, const DirectionInputs<T, P>& given, const RadialWeights<T>& weights,
               const Graph& graph)
        : s(sizes), in(given), network_(weights), graph_(graph),
          row_(rounded_up(sizes.functions, W)) {}

    // (M − 1, C) at `out`, which holds zeros.
    void message(int64_t i, T* out) {
        for (int64_t first = graph_.start[i]; first < graph_.start[i + 1];) {
            const int64_t rows = next(first, graph_.start[i + 1]);
            weigh(rows, out);
        }
    }

    // Gradients of <up, m>, up (M − 1, C); for dual numbers their derivatives, and that of the message.
    void gradient(int64_t i, const T* up, const DirectionSums<T>& to) {
        clear_absent(i, to);
        for (int64_t first = graph_.start[i]; first < graph_.start[i + 1];) {
            const int64_t rows = next(first, graph_.start[i + 1]);
            if constexpr (P == 2) weigh(rows, to.message + i * (M - 1) * s.channels);
            for (int64_t k = 0; k < rows; ++k) weigh_back(k, up, to);
            for (int64_t k = 0; k < rows * row_; k += W) to_basis.store(k, Lane{});
            network_.backward(rows, basis, row_, radial, to_basis, row_, to.mlp[0] ? to.mlp : nullptr);
            for (int64_t k = 0; k < rows; ++k)
                for (int64_t b = 0; b < s.functions; ++b)
                    to.radial[edge_[k] * s.functions + b] = result(to_basis.at(k * row_ + b));
        }
    }

  private:
    const DirectionSizes& s;
    const DirectionInputs<T, P>& in;
    RadialNetwork<T, P> network_;
    const Graph& graph_;
    int64_t row_, edge_[CHUNK];
    Store<T, P> basis_, to_basis_, radial_;
    Array<T, P> basis{}, to_basis{}, radial{};

    void clear_absent(int64_t i, const DirectionSums<T>& to) const {
        for (int64_t e = graph_.start[i]; e < graph_.start[i + 1]; ++e) {
            if (in.envelope.v[e] > 0) continue;
            to.envelope[e] = 0;
            std::fill_n(to.radial + e * s.functions, s.functions, T(0));
            std::fill_n(to.harmonics + e * M, M, T(0));
        }
    }

    // The next edges with an envelope above 0, and their weights φ.
    int64_t next(int64_t& first, int64_t last) {
        basis = basis_.take(CHUNK * row_), to_basis = to_basis_.take(CHUNK * row_);
        radial = radial_.take(CHUNK * network_.row());
        int64_t rows = 0;
        for (; first < last && rows < CHUNK; ++first) {
            if (!(in.envelope.v[first] > 0)) continue;
            for (int64_t b = 0; b < row_; ++b)
                basis.set(rows * row_ + b, b < s.functions ? in.radial.at(first * s.functions + b) : Scalar{});
            edge_[rows++] = first;
        }
        network_.forward(rows, basis, row_, radial);
        return rows;
    }

    void weigh(int64_t rows, T* out) {
        for (int64_t c = 0; c < s.channels; c += W) {
            Lane sum[M] = {};
            for (int64_t k = 0; k < rows; ++k) {
                const int64_t e = edge_[k];
                const Lane sent = in.sender.load(graph_.neighbor[e] * s.channels + c) * splat(in.envelope.at(e) * T(s.factor));
                for (int l = 1; l <= L; ++l) {
                    const Lane along = sent * radial.load(k * network_.row() + (l - 1) * s.channels + c);
                    for (int m = l * l; m < (l + 1) * (l + 1); ++m) sum[m] += along * splat(in.harmonics.at(e * M + m));
                }
            }
            for (int m = 1; m < M; ++m) {
                T* to = out + (m - 1) * s.channels + c;
                store<T>(to, load<T>(to) + result(sum[m]));
            }
        }
    }

    // φ of one edge gives way to its gradient.
    void weigh_back(int64_t k, const T* up, const DirectionSums<T>& to) {
        const int64_t e = edge_[k];
        const Scalar u = in.envelope.at(e) * T(s.factor);
        Lane to_y[M] = {}, to_u{};
        for (int64_t c = 0; c < s.channels; c += W) {
            const Lane sent = in.sender.load(graph_.neighbor[e] * s.channels + c);
            Lane to_sent{};
            for (int l = 1; l <= L; ++l) {
                const Array<T, P> at = radial + (k * network_.row() + (l - 1) * s.channels + c);
                const Lane phi = at.load(0), by_y = phi * sent * splat(u);
                Lane along{};
                for (int m = l * l; m < (l + 1) * (l + 1); ++m) {
                    const Vector<T> one = load<T>(up + (m - 1) * s.channels + c);
                    along += splat(in.harmonics.at(e * M + m)) * one;
                    to_y[m] += by_y * one;
                }
                to_sent += phi * along;
                to_u += phi * along * sent;
                at.store(0, along * sent * splat(u));
            }
            if (!to.sender) continue;
            T* there = to.sender + graph_.neighbor[e] * s.channels + c;
            store<T>(there, load<T>(there) + result(to_sent * splat(u)));
        }
        for (int m = 0; m < M; ++m) to.harmonics[e * M + m] = total<T>(result(to_y[m]));
        to.envelope[e] = result(total<T>(to_u) * T(s.factor));
    }
};

}  // namespace mlanet
