// The product of a node's features with themselves, channel by channel, and its gradient; see mlanet/ops/products.py.
#pragma once
#include "simd.hpp"

namespace mlanet {

struct ProductSizes {
    int64_t nodes, channels, rows_in, rows_out, paths, threads;
};

// Terms of all paths, sorted by path and row: y[row] += w[path] · value · x[first] · x[second].
// Those of path p are begin[p] … begin[p + 1] − 1.
template <class T> struct Terms {
    const int32_t *begin, *row, *first, *second;
    const T* value;
};

// `product` only for duals; `weight` in a place of each thread's own, or nowhere.
template <class T> struct ProductSums {
    T *product, *features, *weight;
};

template <class T, int P> class NodeProduct {
  public:
    static constexpr int W = Lanes<T>::width, MOST_ROWS = 16;
    using Lane = Number<Vector<T>, P>;

    NodeProduct(const ProductSizes& sizes, const Terms<T>& terms, Array<T, P> features, const T* weight)
        : s(sizes), t(terms), x_(features), w_(weight) {}

    void product(int64_t i, T* out) const {
        for (int64_t c = 0; c < s.channels; c += W) {
            Lane x[MOST_ROWS], y[MOST_ROWS] = {};
            take(i, c, x);
            for (int64_t p = 0; p < s.paths; ++p) {
                const Vector<T> weight = load<T>(w_ + p * s.channels + c);
                for (int32_t k = t.begin[p]; k < t.begin[p + 1];) {
                    const int32_t row = t.row[k];
                    y[row] += row_of(k, p, x) * weight;
                }
            }
            for (int64_t m = 0; m < s.rows_out; ++m) store<T>(out + m * s.channels + c, result(y[m]));
        }
    }

    // Gradients of <up, y>; for dual numbers their derivatives, and that of y.
    void gradient(int64_t i, const T* up, const ProductSums<T>& to) const {
        if constexpr (P == 2) product(i, to.product + i * s.rows_out * s.channels);
        for (int64_t c = 0; c < s.channels; c += W) {
            Lane x[MOST_ROWS], to_x[MOST_ROWS] = {};
            take(i, c, x);
            for (int64_t p = 0; p < s.paths; ++p) path_back(p, c, up, x, to_x, to.weight);
            for (int64_t m = 0; m < s.rows_in; ++m)
                store<T>(to.features + (i * s.rows_in + m) * s.channels + c, result(to_x[m]));
        }
    }

  private:
    const ProductSizes& s;
    const Terms<T>& t;
    Array<T, P> x_;
    const T* w_;

    void take(int64_t i, int64_t c, Lane* x) const {
        for (int64_t m = 0; m < s.rows_in; ++m) x[m] = x_.load((i * s.rows_in + m) * s.channels + c);
    }

    // Σ value · x · x over the terms of one row of path p; k moves on to the next row.
    Lane row_of(int32_t& k, int64_t p, const Lane* x) const {
        Lane sum{};
        for (const int32_t row = t.row[k]; k < t.begin[p + 1] && t.row[k] == row; ++k)
            sum += x[t.first[k]] * x[t.second[k]] * t.value[k];
        return sum;
    }

    void path_back(int64_t p, int64_t c, const T* up, const Lane* x, Lane* to_x, T* to_weight) const {
        const Vector<T> weight = load<T>(w_ + p * s.channels + c);
        Lane slope{};
        for (int32_t k = t.begin[p]; k < t.begin[p + 1];) {
            const Vector<T> above = load<T>(up + t.row[k] * s.channels + c), scaled = above * weight;
            const int32_t begin = k;
            slope += row_of(k, p, x) * above;
            for (int32_t q = begin; q < k; ++q) {
                to_x[t.first[q]] += x[t.second[q]] * (scaled * t.value[q]);
                to_x[t.second[q]] += x[t.first[q]] * (scaled * t.value[q]);
            }
        }
        T* there = to_weight + p * s.channels + c;
        if (to_weight) store<T>(there, load<T>(there) + result(slope));
    }
};

}  // namespace mlanet
