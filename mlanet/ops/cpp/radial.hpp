// The radial network of the edges: RBF -> weights, SiLU between layers, no bias; computed again whenever it is needed.
#pragma once
#include "matrix.hpp"

namespace mlanet {

constexpr int MAX_DEPTH = 4;  // layers
constexpr int CHUNK = 64;     // edges whose weights are in the cache at a time

// Edges by center: those of center i are start[i] … start[i + 1] − 1.
struct Graph {
    const int64_t *neighbor, *start;
};

template <class T> struct RadialWeights {
    int64_t depth = 0, widths[MAX_DEPTH + 1] = {};
    Panels<T> forward[MAX_DEPTH], backward[MAX_DEPTH];

    void pack(int64_t layers, const int64_t* sizes, const T* const* weights) {
        depth = layers;
        std::copy(sizes, sizes + layers + 1, widths);
        for (int64_t k = 0; k < depth; ++k) {
            forward[k].pack(weights[k], sizes[k + 1], 1, sizes[k], sizes[k + 1]);
            backward[k].pack(weights[k], 1, sizes[k + 1], sizes[k + 1], sizes[k]);
        }
    }
    int64_t outputs() const { return widths[depth]; }
};

// y = x σ(x) and its slope σ(x) (1 + x (1 − σ(x))), over `count` numbers; x is overwritten by y.
template <class T, int P> void silu(int64_t count, Array<T, P> x, Array<T, P> slope) {
    for (int64_t k = 0; k < count; k += Lanes<T>::width) {
        const auto in = x.load(k), gate = sigmoid<T>(in), out = in * gate;
        x.store(k, out);
        slope.store(k, gate + out * complement(gate));
    }
}

template <class T, int P> class RadialNetwork {
  public:
    explicit RadialNetwork(const RadialWeights<T>& weights) : w_(weights) {}

    int64_t row() const { return w_.outputs() + Lanes<T>::width; }  // odd vectors apart: rows of one column do not collide

    // out (rows × row()) of inputs (rows × in_row).
    void forward(int64_t rows, Array<T, P> in, int64_t in_row, Array<T, P> out) {
        for (int64_t k = 0; k < w_.depth; ++k) {
            const bool last = k + 1 == w_.depth;
            const int64_t width = w_.widths[k + 1];
            Array<T, P> to = last ? out : hidden_[k].take(CHUNK * width);
            w_.forward[k].times(rows, in, in_row, to, last ? row() : width, false);
            if (!last) silu<T, P>(rows * width, to, slope_[k].take(CHUNK * width));
            in = to, in_row = width;
        }
    }

    // Of the last `forward`: adds to the gradient of its inputs, and of the weights if there is a place for it.
    void backward(int64_t rows, Array<T, P> in, int64_t in_row, Array<T, P> up, Array<T, P> to_in, int64_t to_row,
                  T* const* to_weights) {
        int64_t up_row = row();
        for (int64_t k = w_.depth - 1; k >= 0; --k) {
            const int64_t width = w_.widths[k];
            const Array<T, P> from = k ? hidden_[k - 1].take(CHUNK * width) : in;
            const int64_t from_row = k ? width : in_row;
            if (to_weights) add_outer<T>(rows, from, from_row, width, up, up_row, w_.widths[k + 1], to_weights[k]);
            const Array<T, P> down = k ? down_[k - 1].take(CHUNK * width) : to_in;
            w_.backward[k].times(rows, up, up_row, down, k ? width : to_row, k == 0);
            if (k) times(rows * width, down, slope_[k - 1].take(CHUNK * width));
            up = down, up_row = width;
        }
    }

  private:
    const RadialWeights<T>& w_;
    Store<T, P> hidden_[MAX_DEPTH], slope_[MAX_DEPTH], down_[MAX_DEPTH];

    static void times(int64_t count, Array<T, P> a, Array<T, P> b) {
        for (int64_t k = 0; k < count; k += Lanes<T>::width) a.store(k, a.load(k) * b.load(k));
    }
};

}  // namespace mlanet
