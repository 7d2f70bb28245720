// What both kinds of messages have in common: gates, φ, ψ or path weights of a chunk of edges, shares of the heads.
#pragma once
#include <type_traits>

#include "attention.hpp"

namespace mlanet {

template <class T, int L, int P> class Gated : public Neighborhood<T, L, P> {
    using Base = Neighborhood<T, L, P>;

  public:
    using Base::D, Base::M, Base::W;
    using typename Base::Lane, typename Base::Scalar;

    Gated(const Sizes& sizes, const Given<T, P>& given, const Weights<T>& weights, const Graph& graph)
        : Base(sizes, given, weights, graph), gate_row(D * sizes.channels + W), shared_row_(D * sizes.gates + W),
          network_(weights.radial) {}

    // Gates, radial weights of a chunk of edges, and (1 + n_i/n̄) α u of each of their channels; without heads n̄^{-1/2} u.
    void weights_of(int64_t i, int64_t first, int64_t rows) {
        gates = gates_.take(CHUNK * gate_row), radial = radial_.take(CHUNK * network_.row());
        shared_ = s.gate_channels == 1 ? gates : shared_store_.take(CHUNK * shared_row_);
        weight = weight_.take(CHUNK * s.channels);
        for (int64_t e = 0; e < rows; ++e) {
            this->fill(shared_ + e * shared_row_, w.gates_bias, D * s.gates, D * s.gates);
            for (int64_t c = s.per_head * owners(); c < s.channels; ++c) weight.set(e * s.channels + c, Scalar{});
            for (int64_t h = 0; h < owners(); ++h) {
                const Scalar one = s.heads ? alpha.at((first + e) * s.heads + h) * outer(first + e) * in.factor.at(i)
                                           : envelope(first + e) * T(s.uniform_scale);
                for (int64_t c = h * s.per_head; c < (h + 1) * s.per_head; ++c) weight.set(e * s.channels + c, one);
            }
        }
        w.gates.times(rows, z + first * s.hidden, s.hidden, shared_, shared_row_, true);
        for (int64_t e = 0; e < rows; ++e)
            for (int64_t k = 0; k < D * s.gates; k += W)
                shared_.store(e * shared_row_ + k, sigmoid<T>(shared_.load(e * shared_row_ + k)));
        each_plane(rows, [this](auto size, T* own, T* shared) { this->spread(size, own, shared); });
        network_.forward(rows, basis + first * this->functions(), this->functions(), radial);
    }

    // From (1 + n_i/n̄) α u per channel to α, u and the factor.
    void heads_back(int64_t i, int64_t e, int64_t k, Scalar& to_factor) {
        const Scalar u = outer(e), factor = in.factor.at(i);
        Scalar to_u = to_envelope.at(e);
        for (int64_t h = 0; h < owners(); ++h) {
            Scalar sum{};
            for (int64_t c = h * s.per_head; c < (h + 1) * s.per_head; ++c) sum += weight.at(k * s.channels + c);
            if (!s.heads) {
                to_u += sum * T(s.uniform_scale);
                continue;
            }
            const Scalar a = alpha.at(e * s.heads + h);
            to_alpha.set(e * s.heads + h, sum * u * factor);
            to_factor += sum * u * a;
            if (!s.envelope_once) to_u += sum * a * factor;
        }
        to_envelope.set(e, to_u);
    }

    void networks_back(int64_t first, int64_t rows, const Sums<T>& to) {
        each_plane(rows, [this](auto size, T* own, T* shared) { this->gather(size, own, shared); });
        w.gates_back.times(rows, shared_, shared_row_, to_z + first * s.hidden, s.hidden, true);
        if (to.gates) {
            const int64_t columns = D * s.gates;
            add_outer<T>(rows, z + first * s.hidden, s.hidden, s.hidden, shared_, shared_row_, columns, to.gates);
            for (int64_t e = 0; e < rows; ++e)
                for (int64_t k = 0; k < columns; k += W)
                    accumulate(to.gates_bias + k, shared_.load(e * shared_row_ + k));
        }
        const int64_t row = this->functions();
        network_.backward(rows, basis + first * row, row, radial, to_basis + first * row, row,
                          to.chemical ? to.mlp : nullptr);
    }

  protected:
    using Base::s, Base::in, Base::w, Base::n, Base::edge, Base::sender, Base::basis, Base::z, Base::alpha;
    using Base::to_alpha, Base::to_z, Base::to_basis, Base::to_envelope, Base::envelope, Base::outer;
    using Base::accumulate;
    int64_t gate_row;
    Array<T, P> gates{}, radial{}, weight{};

    int64_t radial_row() const { return network_.row(); }

  private:
    int64_t owners() const { return s.heads ? s.heads : 1; }  // of channels that are weighed alike

    int64_t shared_row_;
    Array<T, P> shared_{};  // gates of groups of channels, then their gradients; `gates` itself for groups of one
    RadialNetwork<T, P> network_;
    Store<T, P> gates_, shared_store_, radial_, weight_;

    // Does `work` on the gates of each edge, by channel and by group, where groups have several channels; the compiler
    // knows the usual sizes.
    template <class Work> void each_plane(int64_t rows, Work work) const {
        auto on_all = [&](auto size) {
            for (int64_t e = 0; e < rows; ++e) {
                work(size, gates.v + e * gate_row, shared_.v + e * shared_row_);
                if constexpr (P == 2) work(size, gates.d + e * gate_row, shared_.d + e * shared_row_);
            }
        };
        if (s.gate_channels == 2) on_all(std::integral_constant<int64_t, 2>());
        else if (s.gate_channels == 4) on_all(std::integral_constant<int64_t, 4>());
        else if (s.gate_channels > 1) on_all(s.gate_channels);
    }

    // To the channels from their groups; fillers behind the last whole group get 0.
    template <class Size> INLINE void spread(Size size, T* __restrict own, const T* __restrict shared) const {
        const int64_t whole = s.channels / size;
        for (int l = 0; l < D; ++l, own += s.channels, shared += s.gates) {
            for (int64_t k = 0; k < whole; ++k)
                for (int64_t c = 0; c < size; ++c) own[k * size + c] = shared[k];
            std::fill(own + whole * size, own + s.channels, T(0));
        }
    }

    // From the channels to their groups: sums.
    template <class Size> INLINE void gather(Size size, const T* __restrict own, T* __restrict shared) const {
        const int64_t whole = s.channels / size;
        for (int l = 0; l < D; ++l, own += s.channels, shared += s.gates) {
            for (int64_t k = 0; k < whole; ++k) {
                T sum = 0;
                for (int64_t c = 0; c < size; ++c) sum += own[k * size + c];
                shared[k] = sum;
            }
            std::fill(shared + whole, shared + s.gates, T(0));
        }
    }
};

}  // namespace mlanet
