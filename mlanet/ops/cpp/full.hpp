// Full values V^c = Σ_paths W_path ⊙ (v_j^a ⊗ Y^b)^c: the uvu tensor product, never written for an edge.
//
// The couplings K Y of a path (a, b, c) are a matrix (2a+1, 2c+1) of one edge, the same for all channels.
#pragma once
#include <utility>

#include "gated.hpp"

namespace mlanet {

struct Path {
    int a, b, c;
};

// All paths of natural parity between degrees 0 … L, in the order of mlanet/ops/paths.py.
template <int L> struct Paths {
    static constexpr bool couples(int a, int b, int c) {
        return c >= (a > b ? a - b : b - a) && c <= a + b && (a + b + c) % 2 == 0;
    }
    static constexpr int count() {
        int found = 0;
        for (int a = 0; a <= L; ++a)
            for (int b = 0; b <= L; ++b)
                for (int c = 0; c <= L; ++c) found += couples(a, b, c);
        return found;
    }
    static constexpr Path at(int index) {
        for (int a = 0; a <= L; ++a)
            for (int b = 0; b <= L; ++b)
                for (int c = 0; c <= L; ++c)
                    if (couples(a, b, c) && index-- == 0) return {a, b, c};
        return {0, 0, 0};
    }
    // Where the entries (m_a, m_c) of a path begin; of the path behind the last, how many there are.
    static constexpr int first(int index) {
        int sum = 0;
        for (int k = 0; k < index; ++k) sum += (2 * at(k).a + 1) * (2 * at(k).c + 1);
        return sum;
    }
};

// Which harmonics make which entries: entry[k] += value[k] Y[row[k]], Clebsch–Gordan coefficients and norms included;
// sorted by entry.
template <class T> struct Couplings {
    int64_t count;
    const int32_t *entry, *row;
    const T* value;
};

template <class T, int L, int P> class FullValues : public Gated<T, L, P> {
    using Base = Gated<T, L, P>;

  public:
    using Base::D, Base::M, Base::W;
    using typename Base::Lane, typename Base::Scalar;
    using All = Paths<L>;
    static constexpr int N_PATHS = All::count(), N_ENTRIES = All::first(N_PATHS);

    FullValues(const Sizes& sizes, const Given<T, P>& given, const Weights<T>& weights, const Graph& graph)
        : Base(sizes, given, weights, graph), table_(*weights.couplings) {}

    void weigh(int64_t first, int64_t rows, T* out) {
        for (int64_t e = 0; e < rows; ++e) couple(first + e);
        for (int64_t e = 0; e < rows; ++e) {
            const Array<T, P> entries = entries_of(first + e);
            for (int64_t c = 0; c < s.channels; c += W) {
                Lane sent[M], value[M] = {};
                take(first + e, c, sent);
                products(entries, radial + (e * radial_row() + c), sent, value, std::make_index_sequence<N_PATHS>());
                const Lane share = weight.load(e * s.channels + c);
                for (int l = 0; l < D; ++l) {
                    const Lane gate = gates.load(e * gate_row + l * s.channels + c) * share;
                    for (int m = l * l; m < (l + 1) * (l + 1); ++m) accumulate(out + m * s.channels + c, gate * value[m]);
                }
            }
        }
    }

    // Gates, path weights and shares of one edge give way to their gradients.
    void weigh_back(int64_t e, int64_t k, const T* up, const Sums<T>& to) {
        const Array<T, P> entries = couple(e);
        to_entries_ = to_entries_store_.take(N_ENTRIES * W);
        for (int64_t t = 0; t < N_ENTRIES * W; t += W) to_entries_.store(t, Lane{});
        for (int64_t c = 0; c < s.channels; c += W) {
            Lane sent[M], above[M], value[M] = {}, to_sent[M] = {};
            take(e, c, sent);
            const Lane share = weight.load(k * s.channels + c);
            Lane gate[D], to_share{};
            for (int l = 0; l < D; ++l) {
                gate[l] = gates.load(k * gate_row + l * s.channels + c);
                for (int m = l * l; m < (l + 1) * (l + 1); ++m) above[m] = gate[l] * share * load<T>(up + m * s.channels + c);
            }
            products_back(entries, radial + (k * radial_row() + c), sent, above, value, to_sent,
                          std::make_index_sequence<N_PATHS>());
            for (int l = 0; l < D; ++l) {
                Lane both{};  // gradient of gate · share
                for (int m = l * l; m < (l + 1) * (l + 1); ++m) both += value[m] * load<T>(up + m * s.channels + c);
                to_share += both * gate[l];
                gates.store(k * gate_row + l * s.channels + c, both * share * gate[l] * complement(gate[l]));
            }
            for (int m = 0; m < M; ++m) accumulate(to.sent + (sender[e] * M + m) * s.channels + c, to_sent[m]);
            weight.store(k * s.channels + c, to_share);
        }
        to_envelope.set(e, Scalar{});
        harmonics_back(e, to);
    }

  protected:
    using Base::s, Base::in, Base::edge, Base::sender, Base::to_envelope, Base::accumulate;
    using Base::gates, Base::radial, Base::weight, Base::gate_row, Base::radial_row;

  private:
    const Couplings<T>& table_;
    Store<T, P> entries_, to_entries_store_;
    Array<T, P> to_entries_{};

    Array<T, P> entries_of(int64_t e) { return entries_.take(CHUNK * N_ENTRIES) + e % CHUNK * N_ENTRIES; }

    // The entries of all paths of one edge, from its harmonics.
    Array<T, P> couple(int64_t e) {
        const Array<T, P> found = entries_of(e), y = in.harmonics + edge[e] * M;
        for (int64_t t = 0, k = 0; t < N_ENTRIES; ++t) {
            Scalar sum{};
            for (; k < table_.count && table_.entry[k] == t; ++k) sum += y.at(table_.row[k]) * table_.value[k];
            found.set(t, sum);
        }
        return found;
    }

    void harmonics_back(int64_t e, const Sums<T>& to) {
        Lane sum[M] = {};
        for (int64_t k = 0; k < table_.count; ++k)
            sum[table_.row[k]] += to_entries_.load(table_.entry[k] * W) * table_.value[k];
        for (int m = 0; m < M; ++m) to.harmonics[edge[e] * M + m] = total<T>(result(sum[m]));
    }

    void take(int64_t e, int64_t c, Lane* sent) const {
        for (int m = 0; m < M; ++m) sent[m] = in.sent.load((sender[e] * M + m) * s.channels + c);
    }

    template <size_t... I>
    INLINE void products(Array<T, P> t, Array<T, P> weights, const Lane* sent, Lane* value, std::index_sequence<I...>) {
        (product<I>(t, weights.load(I * s.channels), sent, value), ...);
    }
    template <size_t... I>
    INLINE void products_back(Array<T, P> t, Array<T, P> weights, const Lane* sent, const Lane* above, Lane* value,
                              Lane* to_sent, std::index_sequence<I...>) {
        (product_back<I>(t, weights + I * s.channels, sent, above, value, to_sent), ...);
    }

    template <int I> INLINE void product(Array<T, P> t, Lane weight, const Lane* sent, Lane* value) {
        constexpr Path p = All::at(I);
        for (int c = 0; c < 2 * p.c + 1; ++c) {
            Lane sum{};
            for (int a = 0; a < 2 * p.a + 1; ++a)
                sum += scaled<T>(sent[p.a * p.a + a], t.at(All::first(I) + a * (2 * p.c + 1) + c));
            value[p.c * p.c + c] += weight * sum;
        }
    }

    template <int I>
    INLINE void product_back(Array<T, P> t, Array<T, P> at, const Lane* sent, const Lane* above, Lane* value,
                             Lane* to_sent) {
        constexpr Path p = All::at(I);
        constexpr int first = All::first(I), row = 2 * p.c + 1;
        const Lane weight = at.load(0);
        Lane to_weight{};
        for (int c = 0; c < row; ++c) {
            Lane sum{};
            for (int a = 0; a < 2 * p.a + 1; ++a) sum += scaled<T>(sent[p.a * p.a + a], t.at(first + a * row + c));
            value[p.c * p.c + c] += weight * sum;
            to_weight += above[p.c * p.c + c] * sum;
        }
        for (int a = 0; a < 2 * p.a + 1; ++a) {
            const Lane product = weight * sent[p.a * p.a + a];
            Lane sum{};
            for (int c = 0; c < row; ++c) {
                sum += scaled<T>(above[p.c * p.c + c], t.at(first + a * row + c));
                const int64_t entry = (first + a * row + c) * W;
                to_entries_.store(entry, to_entries_.load(entry) + product * above[p.c * p.c + c]);
            }
            to_sent[p.a * p.a + a] += weight * sum;
        }
        at.store(0, to_weight);
    }
};

}  // namespace mlanet
