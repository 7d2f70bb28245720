// The message of one center and its gradient, for one kind of values; see mlanet/ops/block.py for the equations.
#pragma once
#include "full.hpp"
#include "light.hpp"

namespace mlanet {

// As the caller has them; not kept.
template <class T> struct RawWeights {
    const T *chemical, *gates, *gates_bias, *logits, *logits_bias, *log_temperature, *mlp[MAX_DEPTH];
};

template <class T, int L>
void pack(const Sizes& s, const RawWeights<T>& raw, const Couplings<T>* couplings, Weights<T>& w) {
    const int64_t gates = (L + 1) * s.gates, logits = s.heads * (2 * L + 2);
    w.chemical.pack(raw.chemical, s.hidden, 1, s.functions, s.hidden);
    w.chemical_back.pack(raw.chemical, 1, s.hidden, s.hidden, s.functions);
    w.gates.pack(raw.gates, 1, s.hidden, s.hidden, gates);
    w.gates_back.pack(raw.gates, s.hidden, 1, gates, s.hidden);
    w.logits.pack(raw.logits, 1, s.hidden, s.hidden, logits);
    w.logits_back.pack(raw.logits, s.hidden, 1, logits, s.hidden);
    w.gates_bias = raw.gates_bias, w.logits_bias = raw.logits_bias, w.log_temperature = raw.log_temperature;
    w.radial.pack(s.depth, s.widths, raw.mlp);
    w.couplings = couplings;
}

// The sums of thread t: of n threads' places, one after the other.
template <class T, int L> Sums<T> of_thread(const Sums<T>& all, const Sizes& s, int64_t t) {
    Sums<T> own = all;
    auto move = [t](T*& place, int64_t size) { place = place ? place + t * size : place; };
    const int64_t logits = rounded_up(s.heads * (2 * L + 2), Lanes<T>::width);
    constexpr int M = (L + 1) * (L + 1);
    move(own.sent, s.atoms * M * s.channels), move(own.key, s.atoms * M * s.keys), move(own.near, s.atoms * s.hidden);
    move(own.chemical, s.functions * s.hidden), move(own.gates, s.hidden * (L + 1) * s.gates);
    move(own.gates_bias, (L + 1) * s.gates), move(own.logits, s.hidden * logits);
    move(own.logits_bias, s.heads * (2 * L + 2)), move(own.log_temperature, s.heads);
    for (int64_t k = 0; k < s.depth; ++k) move(own.mlp[k], s.widths[k] * s.widths[k + 1]);
    return own;
}

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

    // Gradients of <up, m>, up (M, C); for dual numbers their derivatives, and that of the message. Where anything is
    // kept, `message` of this center comes first.
    template <class T> void gradient(int64_t i, const T* up, const Sums<T>& to) {
        this->attend(i, true);
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
