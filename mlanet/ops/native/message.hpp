// The message of one center and its gradient: m = Σ_j (α, gates) ⊙ (φ ⊙ v_j + ψ ⊙ v_j^0 ⊗ Y), see mlanet/ops/block.py.
#pragma once
#include "attention.hpp"

namespace mlanet {

template <class T, int L, int P> class Message : public Neighborhood<T, L, P> {
    using Base = Neighborhood<T, L, P>;
    using Base::D, Base::M, Base::W, Base::s, Base::in, Base::w, Base::n, Base::edge, Base::sender, Base::basis, Base::z;
    using Base::alpha, Base::to_alpha, Base::to_z, Base::to_basis, Base::to_envelope, Base::envelope, Base::accumulate;
    using typename Base::Lane, typename Base::Scalar;

  public:
    Message(const Sizes& sizes, const Given<T, P>& given, const Weights<T>& weights, Graph graph)
        : Base(sizes, given, weights, graph), network_(weights.radial), gate_row_(D * sizes.channels + W),
          by_sum_(sizes.chemical_scale > 0) {}

    // (M, C) at `out`, which holds zeros.
    void message(int64_t i, T* out) {
        this->attend(i);
        for (int64_t first = 0; first < n; first += CHUNK) {
            const int64_t rows = std::min<int64_t>(CHUNK, n - first);
            weights_of(i, first, rows);
            weigh(first, rows, out);
        }
    }

    // Gradients of <up, m>, up (M, C); for dual numbers their derivatives, and that of the message.
    void gradient(int64_t i, const T* up, const Sums<T>& to) {
        this->attend(i);
        this->clear_absent(i, to);
        for (int64_t k = 0; k < n * s.hidden; k += W) to_z.store(k, Lane{});
        for (int64_t k = 0; k < n * this->functions(); k += W) to_basis.store(k, Lane{});
        Scalar to_factor{};
        for (int64_t first = 0; first < n; first += CHUNK) {
            const int64_t rows = std::min<int64_t>(CHUNK, n - first);
            weights_of(i, first, rows);
            if constexpr (P == 2) weigh(first, rows, to.message + i * M * s.channels);
            for (int64_t e = first; e < first + rows; ++e) weigh_back(e, e - first, up, to);
            for (int64_t e = first; e < first + rows; ++e) heads_back(i, e, e - first, to_factor);
            networks_back(first, rows, to);
        }
        to.factor[i] = result(to_factor);
        this->attend_back(i, to);
    }

  private:
    RadialNetwork<T, P> network_;
    int64_t gate_row_;
    bool by_sum_;
    Store<T, P> gates_, radial_, weight_;
    Array<T, P> gates{}, radial{}, weight{};

    // Gates, φ and ψ of a chunk of edges, and (1 + n_i/n̄) α u of each of their channels.
    void weights_of(int64_t i, int64_t first, int64_t rows) {
        gates = gates_.take(CHUNK * gate_row_), radial = radial_.take(CHUNK * network_.row());
        weight = weight_.take(CHUNK * s.channels);
        for (int64_t e = 0; e < rows; ++e) {
            this->fill(gates + e * gate_row_, w.gates_bias, D * s.channels, D * s.channels);
            for (int64_t c = s.per_head * s.heads; c < s.channels; ++c) weight.set(e * s.channels + c, Scalar{});
            for (int64_t h = 0; h < s.heads; ++h) {
                const Scalar one = alpha.at((first + e) * s.heads + h) * envelope(first + e) * in.factor.at(i);
                for (int64_t c = h * s.per_head; c < (h + 1) * s.per_head; ++c) weight.set(e * s.channels + c, one);
            }
        }
        w.gates.times(rows, z + first * s.hidden, s.hidden, gates, gate_row_, true);
        for (int64_t e = 0; e < rows; ++e)
            for (int64_t k = 0; k < D * s.channels; k += W)
                gates.store(e * gate_row_ + k, sigmoid<T>(gates.load(e * gate_row_ + k)));
        network_.forward(rows, basis + first * this->functions(), this->functions(), radial);
    }

    // u n̄^{-1/2} of `combine: sum`.
    Scalar chemical(int64_t e) const { return envelope(e) * T(s.chemical_scale); }

    void weigh(int64_t first, int64_t rows, T* out) {
        for (int64_t c = 0; c < s.channels; c += W) {
            Lane sum[M] = {};
            for (int64_t e = 0; e < rows; ++e) {
                const int64_t sent = sender[first + e] * M * s.channels + c, y = edge[first + e] * M;
                const Lane share = weight.load(e * s.channels + c), scalar = in.sent.load(sent);
                for (int l = 0; l < D; ++l) {
                    const Lane gate = gates.load(e * gate_row_ + l * s.channels + c);
                    const Lane phi = radial.load(e * network_.row() + l * s.channels + c);
                    const Lane psi = radial.load(e * network_.row() + (D + l) * s.channels + c);
                    const Lane own = (by_sum_ ? gate * splat(chemical(first + e)) : gate * share) * phi;
                    const Lane along = (by_sum_ ? share : gate * share) * psi * scalar;
                    for (int m = l * l; m < (l + 1) * (l + 1); ++m)
                        sum[m] += own * in.sent.load(sent + m * s.channels) + along * splat(in.harmonics.at(y + m));
                }
            }
            for (int m = 0; m < M; ++m) accumulate(out + m * s.channels + c, sum[m]);
        }
    }

    // Gates, φ, ψ and weights of one edge give way to their gradients.
    void weigh_back(int64_t e, int64_t k, const T* up, const Sums<T>& to) {
        const int64_t from = sender[e] * M * s.channels, y = edge[e] * M;
        Lane to_y[M] = {}, to_u{};
        for (int64_t c = 0; c < s.channels; c += W) {
            const Lane share = weight.load(k * s.channels + c), scalar = in.sent.load(from + c);
            Lane to_share{}, to_scalar{};
            for (int l = 0; l < D; ++l) {
                const Array<T, P> at_gate = gates + (k * gate_row_ + l * s.channels + c);
                const Array<T, P> at_phi = radial + (k * network_.row() + l * s.channels + c);
                const Array<T, P> at_psi = at_phi + D * s.channels;
                const Lane gate = at_gate.load(0), phi = at_phi.load(0), psi = at_psi.load(0);
                Lane own{}, along{};  // Σ_m U v and Σ_m U Y
                for (int m = l * l; m < (l + 1) * (l + 1); ++m) {
                    const Vector<T> u = load<T>(up + m * s.channels + c);
                    own += in.sent.load(from + m * s.channels + c) * u;
                    along += splat(in.harmonics.at(y + m)) * u;
                }
                const Lane chem = by_sum_ ? gate * splat(chemical(e)) : gate * share, geo = by_sum_ ? share : chem;
                const Lane sent = psi * scalar * along, to_chem = phi * own;
                const Lane to_gate = by_sum_ ? to_chem * splat(chemical(e)) : (to_chem + sent) * share;
                to_share += by_sum_ ? sent : (to_chem + sent) * gate;
                if (by_sum_) to_u += to_chem * gate;
                at_gate.store(0, to_gate * gate * complement(gate));
                at_phi.store(0, chem * own);
                at_psi.store(0, geo * along * scalar);
                const Lane by_phi = chem * phi, by_psi = geo * psi, by_y = by_psi * scalar;
                to_scalar += by_psi * along;
                for (int m = l * l; m < (l + 1) * (l + 1); ++m) {
                    const Vector<T> u = load<T>(up + m * s.channels + c);
                    accumulate(to.sent + from + m * s.channels + c, by_phi * u);
                    to_y[m] += by_y * u;
                }
            }
            accumulate(to.sent + from + c, to_scalar);
            weight.store(k * s.channels + c, to_share);
        }
        for (int m = 0; m < M; ++m) to.harmonics[y + m] = total<T>(result(to_y[m]));
        to_envelope.set(e, total<T>(to_u) * T(s.chemical_scale));
    }

    // From (1 + n_i/n̄) α u per channel to α, u and the factor.
    void heads_back(int64_t i, int64_t e, int64_t k, Scalar& to_factor) {
        const Scalar u = envelope(e), factor = in.factor.at(i);
        Scalar to_u = to_envelope.at(e);
        for (int64_t h = 0; h < s.heads; ++h) {
            Scalar sum{};
            for (int64_t c = h * s.per_head; c < (h + 1) * s.per_head; ++c) sum += weight.at(k * s.channels + c);
            const Scalar a = alpha.at(e * s.heads + h);
            to_alpha.set(e * s.heads + h, sum * u * factor);
            to_factor += sum * u * a;
            to_u += sum * a * factor;
        }
        to_envelope.set(e, to_u);
    }

    void networks_back(int64_t first, int64_t rows, const Sums<T>& to) {
        w.gates_back.times(rows, gates, gate_row_, to_z + first * s.hidden, s.hidden, true);
        if (to.gates) {
            const int64_t columns = D * s.channels;
            add_outer<T>(rows, z + first * s.hidden, s.hidden, s.hidden, gates, gate_row_, columns, to.gates);
            for (int64_t e = 0; e < rows; ++e)
                for (int64_t k = 0; k < columns; k += W) accumulate(to.gates_bias + k, gates.load(e * gate_row_ + k));
        }
        const int64_t row = this->functions();
        network_.backward(rows, basis + first * row, row, radial, to_basis + first * row, row,
                          to.chemical ? to.mlp : nullptr);
    }
};

}  // namespace mlanet
