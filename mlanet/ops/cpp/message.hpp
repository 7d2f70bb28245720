// The message of one center and its gradient, for one kind of values; see mlanet/ops/block.py for the equations.
#pragma once
#include "full.hpp"
#include "light.hpp"

namespace mlanet {

template <class Values> class Message : public Values {
  public:
    using Values::Values;

    // (M, C) at `out`, which holds zeros.
    template <class T> void message(int64_t i, T* out) {
        this->attend(i);
        for (int64_t first = 0; first < n; first += CHUNK) {
            const int64_t rows = std::min<int64_t>(CHUNK, n - first);
            this->weights_of(i, first, rows);
            this->weigh(first, rows, out);
        }
    }

    // Gradients of <up, m>, up (M, C); for dual numbers their derivatives, and that of the message.
    template <class T> void gradient(int64_t i, const T* up, const Sums<T>& to) {
        this->attend(i);
        this->clear(i, to);
        typename Values::Scalar to_factor{};
        for (int64_t first = 0; first < n; first += CHUNK) {
            const int64_t rows = std::min<int64_t>(CHUNK, n - first);
            this->weights_of(i, first, rows);
            if (to.message) this->weigh(first, rows, to.message + i * Values::M * this->s.channels);
            for (int64_t k = 0; k < rows; ++k) this->weigh_back(first + k, k, up, to);
            for (int64_t k = 0; k < rows; ++k) this->heads_back(i, first + k, k, to_factor);
            this->networks_back(first, rows, to);
        }
        to.factor[i] = result(to_factor);
        this->attend_back(i, to);
    }

  private:
    using Values::n;
};

}  // namespace mlanet
