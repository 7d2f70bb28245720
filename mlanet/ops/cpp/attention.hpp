// The logits and weights of the neighbours of one center: z, query · key, query · Y, softmax with null key.
#pragma once
#include "radial.hpp"

namespace mlanet {

// Sizes; channels, gates (of a degree), keys (heads × key_dim) and hidden are filled up to whole vectors by the caller.
struct Sizes {
    int64_t centers, atoms, channels, gates, gate_channels, per_head, heads, key_dim, keys, hidden, functions, depth;
    int64_t widths[MAX_DEPTH + 1];
    double chemical_scale, uniform_scale;  // the latter of messages without heads, which weigh all neighbours alike
    int64_t threads, envelope_once;  // the latter: α is not multiplied by another envelope
};

// What `BlockInputs` names, by atom or by edge.
template <class T, int P> struct Given {
    Array<T, P> sent, key, near, query, here, factor, envelope, radial, harmonics;
};

template <class T> struct Couplings;

template <class T> struct Weights {
    Panels<T> chemical, chemical_back, gates, gates_back, logits, logits_back;
    const T *gates_bias, *logits_bias, *log_temperature;
    RadialWeights<T> radial;
    const Couplings<T>* couplings;  // of full values only
};

// Where the gradients go, those of senders and weights to a place of each thread's own; `message` only for duals.
template <class T> struct Sums {
    T *message, *sent, *key, *near, *query, *here, *factor, *envelope, *radial, *harmonics;
    T *chemical, *gates, *gates_bias, *logits, *logits_bias, *log_temperature, *mlp[MAX_DEPTH];
};

// Everything about the edges of one center that takes part: those with an envelope above 0.
template <class T, int L, int P> class Neighborhood {
  public:
    static constexpr int W = Lanes<T>::width, D = L + 1, M = D * D, Q = 2 * L + 2, PRODUCTS = 2 * L + 1;
    using Scalar = Number<T, P>;
    using Lane = Number<Vector<T>, P>;

    Neighborhood(const Sizes& sizes, const Given<T, P>& given, const Weights<T>& weights, const Graph& graph)
        : s(sizes), in(given), w(weights), graph_(graph), functions_(rounded_up(sizes.functions, W)),
          logit_row_(rounded_up(sizes.heads * Q, W)) {
        for (int l = 0; l < D; ++l) scale_[l] = T(1) / std::sqrt(T(sizes.key_dim * (2 * l + 1) * D));
    }

    int64_t count() const { return n; }

    // A place for what `attend` finds, of all edges, `kept_row` numbers each; or null, to find it anew for the gradient.
    void keep_at(T* place) { kept_ = place; }
    int64_t kept_row() const { return rounded_up(2 * s.hidden + logit_row_ + s.heads * (PRODUCTS + 2), W); }

    // α of all edges of center i; `again`: after the same of this center, by whatever thread.
    void attend(int64_t i, bool again = false) {
        collect(i);
        take(i);
        take_basis();
        if (s.heads) sum_query(i);
        for (int64_t h = 0; h < s.heads; ++h) cold_[h] = std::exp(-w.log_temperature[h]);
        if (kept_ && again) return;
        hidden(i);
        if (!s.heads) return;
        for (int64_t e = 0; e < n; ++e) fill(logits + e * logit_row_, w.logits_bias, s.heads * Q, logit_row_);
        w.logits.times(n, z, s.hidden, logits, logit_row_, true);
        for (int64_t e = 0; e < n; ++e) products(i, e);
        softmax();
    }

    // From the gradient of α to those of everything it came from; gradient of z from elsewhere is in `to_z` already.
    void attend_back(int64_t i, const Sums<T>& to) {
        if (s.heads) back_to_logits(i, to);
        hidden_back(i, to);
    }

  private:
    void back_to_logits(int64_t i, const Sums<T>& to) {
        std::fill_n(to.query + i * M * s.keys, M * s.keys, T(0));
        for (int64_t h = 0; h < s.heads; ++h) softmax_back(h, to);
        for (int64_t e = 0; e < n; ++e) products_back(i, e, to);
        w.logits_back.times(n, to_logits, logit_row_, to_z, s.hidden, true);
        if (to.logits) {
            add_outer<T>(n, z, s.hidden, s.hidden, to_logits, logit_row_, logit_row_, to.logits);
            for (int64_t e = 0; e < n; ++e)
                for (int64_t k = 0; k < s.heads * Q; ++k) to.logits_bias[k] += result(to_logits.at(e * logit_row_ + k));
        }
    }

  protected:
    const Sizes& s;
    const Given<T, P>& in;
    const Weights<T>& w;
    int64_t n = 0;
    const int64_t *edge = nullptr, *sender = nullptr;
    Array<T, P> basis{}, z{}, alpha{}, to_alpha{}, to_z{}, to_basis{}, to_envelope{};

    Scalar envelope(int64_t e) const { return in.envelope.at(edge[e]); }
    Scalar outer(int64_t e) const { return s.envelope_once ? shifted(Scalar{}, T(-1)) : envelope(e); }
    int64_t functions() const { return functions_; }

    // Zeros where gradients of center i will be added, and for its edges that take no part.
    void clear(int64_t i, const Sums<T>& to) const {
        for (int64_t k = 0; k < n * s.hidden; k += W) to_z.store(k, Lane{});
        for (int64_t k = 0; k < n * functions_; k += W) to_basis.store(k, Lane{});
        for (int64_t e = graph_.start[i]; e < graph_.start[i + 1]; ++e) {
            if (in.envelope.v[e] > 0) continue;
            to.envelope[e] = 0;
            std::fill_n(to.radial + e * s.functions, s.functions, T(0));
            std::fill_n(to.harmonics + e * M, M, T(0));
        }
    }

    static void fill(Array<T, P> row, const T* from, int64_t given, int64_t whole) {
        for (int64_t k = 0; k < whole; ++k) row.set(k, shifted(Scalar{}, k < given ? -from[k] : T(0)));
    }
    template <class X> static INLINE void accumulate(T* to, X x) { store<T>(to, load<T>(to) + result(x)); }

  private:
    const Graph& graph_;
    int64_t functions_, logit_row_;
    T* kept_ = nullptr;
    T scale_[D] = {}, *cold_ = nullptr;  // 1/√(d_k (2l+1)(L+1)), and 1/τ of each head
    Buffer<int64_t> edges_;
    Buffer<T> cold_store_;
    Store<T, P> basis_, z_, slope_, logits_, products_, alpha_, boost_, to_alpha_, to_z_, to_basis_, to_logits_, u_, query_, row_;
    Array<T, P> slope{}, logits{}, dots{}, boost{}, to_logits{}, query_sum{}, row{};

    void collect(int64_t i) {
        const int64_t first = graph_.start[i], last = graph_.start[i + 1];
        int64_t* place = edges_.take(2 * (last - first) + 2);
        n = 0;
        for (int64_t e = first; e < last; ++e)
            if (in.envelope.v[e] > 0) place[n++] = e;
        for (int64_t k = 0; k < n; ++k) place[n + k] = graph_.neighbor[place[k]];
        edge = place, sender = place + n;
    }

    void take(int64_t i) {
        basis = basis_.take(n * functions_), to_basis = to_basis_.take(n * functions_);
        T* place = kept_ ? kept_ + graph_.start[i] * kept_row() : nullptr;
        z = kept(z_, place, n * s.hidden), slope = kept(slope_, place, n * s.hidden), to_z = to_z_.take(n * s.hidden);
        logits = kept(logits_, place, n * logit_row_), to_logits = to_logits_.take(n * logit_row_);
        dots = kept(products_, place, n * s.heads * PRODUCTS);
        cold_ = cold_store_.take(s.heads);
        alpha = kept(alpha_, place, n * s.heads), boost = kept(boost_, place, n * s.heads);
        to_alpha = to_alpha_.take(n * s.heads);
        to_envelope = u_.take(n);
        query_sum = query_.take(M * s.heads), row = row_.take(2 * s.keys);
        for (int64_t k = 0; k < 2 * s.keys; k += W) row.store(k, Lane{});
        for (int64_t k = 0; k < n * logit_row_; k += W) to_logits.store(k, Lane{});
    }

    // The next `size` numbers of a place that is kept, or of one that is not.
    static Array<T, P> kept(Store<T, P>& store, T*& place, int64_t size) {
        if constexpr (P == 1)
            if (place) return {(place += size) - size};
        return store.take(size);
    }

    void take_basis() {
        for (int64_t e = 0; e < n; ++e)
            for (int64_t b = 0; b < functions_; ++b)
                basis.set(e * functions_ + b, b < s.functions ? in.radial.at(edge[e] * s.functions + b) : Scalar{});
    }

    // z = SiLU(A s_i + B s_j + D RBF).
    void hidden(int64_t i) {
        for (int64_t e = 0; e < n; ++e)
            for (int64_t r = 0; r < s.hidden; r += W)
                z.store(e * s.hidden + r, in.here.load(i * s.hidden + r) + in.near.load(sender[e] * s.hidden + r));
        w.chemical.times(n, basis, functions_, z, s.hidden, true);
        silu<T, P>(n * s.hidden, z, slope);
    }

    void hidden_back(int64_t i, const Sums<T>& to) {
        for (int64_t k = 0; k < n * s.hidden; k += W) to_z.store(k, to_z.load(k) * slope.load(k));
        for (int64_t r = 0; r < s.hidden; r += W) {
            Vector<T> here{};
            for (int64_t e = 0; e < n; ++e) {
                const auto one = to_z.load(e * s.hidden + r);
                accumulate(to.near + sender[e] * s.hidden + r, one);
                here += result(one);
            }
            store<T>(to.here + i * s.hidden + r, here);
        }
        if (to.chemical) add_outer<T>(n, basis, functions_, s.functions, to_z, s.hidden, s.hidden, to.chemical);
        w.chemical_back.times(n, to_z, s.hidden, to_basis, functions_, true);
        for (int64_t e = 0; e < n; ++e) {
            for (int64_t b = 0; b < s.functions; ++b)
                to.radial[edge[e] * s.functions + b] = result(to_basis.at(e * functions_ + b));
            to.envelope[edge[e]] = result(to_envelope.at(e));
        }
    }

    // Σ of the keys of head h in `row`, and the same number for all of them at `to`.
    INLINE Scalar sum_of_head(int64_t h) const {
        if (s.key_dim == W) return total<T>(row.load(h * W));
        Scalar sum{};
        for (int64_t k = h * s.key_dim; k < (h + 1) * s.key_dim; ++k) sum += row.at(k);
        return sum;
    }
    INLINE void spread_over_head(int64_t h, Array<T, P> to, Scalar one) const {
        if (s.key_dim == W) return to.store(h * W, splat(one));
        for (int64_t k = h * s.key_dim; k < (h + 1) * s.key_dim; ++k) to.set(k, one);
    }

    // <q^l, k_j^l> and <Σ_k q^l, Y_l> per head, and the logits over temperature, which take the place of their first part.
    void products(int64_t i, int64_t e) {
        for (int l = 0; l < D; ++l) {
            for (int64_t k = 0; k < s.keys; k += W) {
                Lane sum{};
                for (int m = l * l; m < (l + 1) * (l + 1); ++m)
                    sum += in.key.load((sender[e] * M + m) * s.keys + k) * in.query.load((i * M + m) * s.keys + k);
                row.store(k, sum);
            }
            for (int64_t h = 0; h < s.heads; ++h) {
                Scalar along{};
                dots.set(product(e, h, l), sum_of_head(h) * scale_[l]);
                if (l == 0) continue;
                for (int m = l * l; m < (l + 1) * (l + 1); ++m)
                    along += in.harmonics.at(edge[e] * M + m) * query_sum.at(m * s.heads + h);
                dots.set(product(e, h, L + l), along * scale_[l]);
            }
        }
        for (int64_t h = 0; h < s.heads; ++h) {
            Scalar logit = logits.at(weight(e, h, 0));
            for (int k = 0; k < PRODUCTS; ++k) logit += logits.at(weight(e, h, k + 1)) * dots.at(product(e, h, k));
            logits.set(weight(e, h, 0), logit * cold_[h]);
        }
    }

    int64_t product(int64_t e, int64_t h, int k) const { return (e * s.heads + h) * PRODUCTS + k; }
    int64_t weight(int64_t e, int64_t h, int k) const { return e * logit_row_ + h * Q + k; }

    void sum_query(int64_t i) {
        for (int m = 0; m < M; ++m)
            for (int64_t h = 0; h < s.heads; ++h) {
                Scalar sum{};
                for (int64_t k = 0; k < s.key_dim; ++k) sum += in.query.at((i * M + m) * s.keys + h * s.key_dim + k);
                query_sum.set(m * s.heads + h, sum);
            }
    }

    // α = u e^{a − peak} / (e^{−peak} + Σ u e^{a − peak}); the peak only keeps numbers small.
    void softmax() {
        for (int64_t h = 0; h < s.heads; ++h) {
            T peak = 0;
            for (int64_t e = 0; e < n; ++e) peak = std::max(peak, logits.v[weight(e, h, 0)]);
            Scalar sum = shifted(Scalar{}, -std::exp(-peak));
            for (int64_t e = 0; e < n; ++e) {
                const Scalar power = exponential(shifted(logits.at(weight(e, h, 0)), peak));
                boost.set(e * s.heads + h, power);
                sum += envelope(e) * power;
            }
            const Scalar share = inverse(sum);
            for (int64_t e = 0; e < n; ++e) {
                const int64_t k = e * s.heads + h;
                boost.set(k, boost.at(k) * share);
                alpha.set(k, boost.at(k) * envelope(e));
            }
        }
    }

    static T shifted(T x, T by) { return x - by; }
    static Dual<T> shifted(Dual<T> x, T by) { return {x.v - by, x.d}; }

    // δa = α (δα − Σ α δα), δu += (δα − Σ α δα) e^{a − peak} / sum; then to the parts of a, in the place of products.
    void softmax_back(int64_t h, const Sums<T>& to) {
        Scalar mean{};
        for (int64_t e = 0; e < n; ++e) mean += alpha.at(e * s.heads + h) * to_alpha.at(e * s.heads + h);
        T to_temperature = 0;
        for (int64_t e = 0; e < n; ++e) {
            const int64_t k = e * s.heads + h;
            const Scalar above = to_alpha.at(k) - mean, to_scaled = alpha.at(k) * above, to_logit = to_scaled * cold_[h];
            to_envelope.set(e, to_envelope.at(e) + above * boost.at(k));
            to_temperature -= result(to_scaled * logits.at(weight(e, h, 0)));
            to_logits.set(weight(e, h, 0), to_logit);
            for (int q = 0; q < PRODUCTS; ++q) {
                to_logits.set(weight(e, h, q + 1), to_logit * dots.at(product(e, h, q)));
                dots.set(product(e, h, q), to_logit * logits.at(weight(e, h, q + 1)) * scale_[q < D ? q : q - L]);
            }
        }
        if (to.log_temperature) to.log_temperature[h] += to_temperature;
    }

    // From products to query, key and Y: `dots` holds their gradients now.
    void products_back(int64_t i, int64_t e, const Sums<T>& to) {
        for (int l = 0; l < D; ++l) {
            for (int64_t h = 0; h < s.heads; ++h) {
                spread_over_head(h, row, dots.at(product(e, h, l)));
                spread_over_head(h, row + s.keys, l ? dots.at(product(e, h, L + l)) : Scalar{});
            }
            for (int m = l * l; m < (l + 1) * (l + 1); ++m) {
                const auto y = splat(in.harmonics.at(edge[e] * M + m));
                for (int64_t k = 0; k < s.keys; k += W) {
                    const int64_t there = (sender[e] * M + m) * s.keys + k, here = (i * M + m) * s.keys + k;
                    const Lane dot = row.load(k);
                    accumulate(to.key + there, dot * in.query.load(here));
                    accumulate(to.query + here, dot * in.key.load(there) + row.load(s.keys + k) * y);
                }
                Scalar along{};
                for (int64_t h = 0; l && h < s.heads; ++h)
                    along += dots.at(product(e, h, L + l)) * query_sum.at(m * s.heads + h);
                to.harmonics[edge[e] * M + m] += result(along);
            }
        }
    }
};

}  // namespace mlanet
