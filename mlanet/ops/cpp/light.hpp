// Light values V = φ ⊙ v_j + ψ ⊙ v_j^0 ⊗ Y: no tensor product on edges.
#pragma once
#include "gated.hpp"

namespace mlanet {

template <class T, int L, int P> class LightValues : public Gated<T, L, P> {
    using Base = Gated<T, L, P>;

  public:
    using Base::D, Base::M, Base::W;
    using typename Base::Lane, typename Base::Scalar;

    LightValues(const Sizes& sizes, const Given<T, P>& given, const Weights<T>& weights, const Graph& graph)
        : Base(sizes, given, weights, graph), by_sum_(sizes.chemical_scale > 0) {}

    // u n̄^{-1/2} of `combine: sum`.
    Scalar chemical(int64_t e) const { return envelope(e) * T(s.chemical_scale); }

    void weigh(int64_t first, int64_t rows, T* out) {
        for (int64_t c = 0; c < s.channels; c += W) {
            Lane sum[M] = {};
            for (int64_t e = 0; e < rows; ++e) {
                const int64_t sent = sender[first + e] * M * s.channels + c, y = edge[first + e] * M;
                const Lane share = weight.load(e * s.channels + c), scalar = in.sent.load(sent);
                for (int l = 0; l < D; ++l) {
                    const Lane gate = gates.load(e * gate_row + l * s.channels + c);
                    const Lane phi = radial.load(e * radial_row() + l * s.channels + c);
                    const Lane psi = radial.load(e * radial_row() + (D + l) * s.channels + c);
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
                const Array<T, P> at_gate = gates + (k * gate_row + l * s.channels + c);
                const Array<T, P> at_phi = radial + (k * radial_row() + l * s.channels + c);
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

  protected:
    using Base::s, Base::in, Base::edge, Base::sender, Base::to_envelope, Base::envelope, Base::accumulate;
    using Base::gates, Base::radial, Base::weight, Base::gate_row, Base::radial_row;

  private:
    bool by_sum_;
};

}  // namespace mlanet
