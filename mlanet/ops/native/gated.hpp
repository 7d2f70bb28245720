// What both kinds of messages have in common: gates, φ, ψ or path weights of a chunk of edges, shares of the heads.
#pragma once
#include "attention.hpp"

namespace mlanet {

template <class T, int L, int P> class Gated : public Neighborhood<T, L, P> {
    using Base = Neighborhood<T, L, P>;

  public:
    using Base::D, Base::M, Base::W;
    using typename Base::Lane, typename Base::Scalar;

    Gated(const Sizes& sizes, const Given<T, P>& given, const Weights<T>& weights, Graph graph)
        : Base(sizes, given, weights, graph), gate_row(D * sizes.channels + W), network_(weights.radial) {}

    // Gates, radial weights of a chunk of edges, and (1 + n_i/n̄) α u of each of their channels.
    void weights_of(int64_t i, int64_t first, int64_t rows) {
        gates = gates_.take(CHUNK * gate_row), radial = radial_.take(CHUNK * network_.row());
        weight = weight_.take(CHUNK * s.channels);
        for (int64_t e = 0; e < rows; ++e) {
            this->fill(gates + e * gate_row, w.gates_bias, D * s.channels, D * s.channels);
            for (int64_t c = s.per_head * s.heads; c < s.channels; ++c) weight.set(e * s.channels + c, Scalar{});
            for (int64_t h = 0; h < s.heads; ++h) {
                const Scalar one = alpha.at((first + e) * s.heads + h) * envelope(first + e) * in.factor.at(i);
                for (int64_t c = h * s.per_head; c < (h + 1) * s.per_head; ++c) weight.set(e * s.channels + c, one);
            }
        }
        w.gates.times(rows, z + first * s.hidden, s.hidden, gates, gate_row, true);
        for (int64_t e = 0; e < rows; ++e)
            for (int64_t k = 0; k < D * s.channels; k += W)
                gates.store(e * gate_row + k, sigmoid<T>(gates.load(e * gate_row + k)));
        network_.forward(rows, basis + first * this->functions(), this->functions(), radial);
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
        w.gates_back.times(rows, gates, gate_row, to_z + first * s.hidden, s.hidden, true);
        if (to.gates) {
            const int64_t columns = D * s.channels;
            add_outer<T>(rows, z + first * s.hidden, s.hidden, s.hidden, gates, gate_row, columns, to.gates);
            for (int64_t e = 0; e < rows; ++e)
                for (int64_t k = 0; k < columns; k += W) accumulate(to.gates_bias + k, gates.load(e * gate_row + k));
        }
        const int64_t row = this->functions();
        network_.backward(rows, basis + first * row, row, radial, to_basis + first * row, row,
                          to.chemical ? to.mlp : nullptr);
    }

  protected:
    using Base::s, Base::in, Base::w, Base::n, Base::edge, Base::sender, Base::basis, Base::z, Base::alpha;
    using Base::to_alpha, Base::to_z, Base::to_basis, Base::to_envelope, Base::envelope, Base::accumulate;
    int64_t gate_row;
    Array<T, P> gates{}, radial{}, weight{};

    int64_t radial_row() const { return network_.row(); }

  private:
    RadialNetwork<T, P> network_;
    Store<T, P> gates_, radial_, weight_;
};

}  // namespace mlanet
