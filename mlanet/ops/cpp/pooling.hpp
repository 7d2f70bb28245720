// Two ways to pool the neighbours of an atom, Σ_j u x_j and log(1 + Σ_j u e^{x_j}), and their gradients.
#pragma once
#include "simd.hpp"

namespace mlanet {

struct PoolingSizes {
    int64_t centers, atoms, channels, threads;
};

template <class T, int P> struct PoolingInputs {
    Array<T, P> features, envelope;
};

// `pooled` only for duals; `features` in a place of each thread's own.
template <class T> struct PoolingSums {
    T *pooled, *features, *envelope;
};

template <class T, int P> class Pooling {
  public:
    static constexpr int W = Lanes<T>::width;
    using Lane = Number<Vector<T>, P>;

    Pooling(const PoolingSizes& sizes, const PoolingInputs<T, P>& given, const int64_t* neighbor, const int64_t* start)
        : s(sizes), in(given), neighbor_(neighbor), start_(start) {}

    // (2, C) at `out`.
    void value(int64_t i, T* out) const {
        for (int64_t c = 0; c < s.channels; c += W) around(i, c, out);
    }

    // Gradients of <up, pooled>, up (2, C); for dual numbers their derivatives, and those of sum and maximum.
    void gradient(int64_t i, const T* up, const PoolingSums<T>& to) const {
        for (int64_t e = start_[i]; e < start_[i + 1]; ++e) to.envelope[e] = 0;
        for (int64_t c = 0; c < s.channels; c += W) {
            const Around found = around(i, c, P == 2 ? to.pooled + i * 2 * s.channels : nullptr);
            const Vector<T> to_sum = load<T>(up + c), to_peak = load<T>(up + s.channels + c);
            for (int64_t e = start_[i]; e < start_[i + 1]; ++e) {
                if (!(in.envelope.v[e] > 0)) continue;
                const int64_t there = neighbor_[e] * s.channels + c;
                const Lane x = in.features.load(there), share = power(x, found.peak) * found.inverse;
                const Lane slope = splat(in.envelope.at(e)) * (share * to_peak + constant(to_sum));
                store<T>(to.features + there, load<T>(to.features + there) + result(slope));
                to.envelope[e] += total<T>(result(x * to_sum + share * to_peak));
            }
        }
    }

  private:
    struct Around {
        Vector<T> peak;
        Lane inverse;  // 1 / (e^{−peak} + Σ u e^{x − peak})
    };

    const PoolingSizes& s;
    const PoolingInputs<T, P>& in;
    const int64_t *neighbor_, *start_;

    static Vector<T> power(Vector<T> x, Vector<T> peak) { return exponential<T>(x - peak); }
    static Dual<Vector<T>> power(Dual<Vector<T>> x, Vector<T> peak) {
        const Vector<T> y = exponential<T>(x.v - peak);
        return {y, y * x.d};
    }
    static Lane constant(Vector<T> x) {
        if constexpr (P == 2) return {x, Vector<T>{}};
        else return x;
    }
    static Vector<T> inverse(Vector<T> x) { return T(1) / x; }
    static Dual<Vector<T>> inverse(Dual<Vector<T>> x) {
        const Vector<T> y = T(1) / x.v;
        return {y, -y * y * x.d};
    }
    static Vector<T> logarithm(Vector<T> x) {
        for (int k = 0; k < W; ++k) x[k] = std::log(x[k]);
        return x;
    }
    static Vector<T> log_change(Vector<T> x, Vector<T> peak) { return peak + logarithm(x); }
    static Vector<T> log_change(Dual<Vector<T>> x, Vector<T>) { return x.d / x.v; }

    // Sum and maximum of one vector of channels into `out` if it is given, and what their gradients need.
    Around around(int64_t i, int64_t c, T* out) const {
        Vector<T> peak{};
        for (int64_t e = start_[i]; e < start_[i + 1]; ++e) {
            const Vector<T> x = load<T>(in.features.v + neighbor_[e] * s.channels + c);
            if (in.envelope.v[e] > 0) peak = x > peak ? x : peak;
        }
        Lane sum{}, weight = constant(exponential<T>(-peak));
        for (int64_t e = start_[i]; e < start_[i + 1]; ++e) {
            if (!(in.envelope.v[e] > 0)) continue;
            const Lane x = in.features.load(neighbor_[e] * s.channels + c), u = splat(in.envelope.at(e));
            sum += u * x;
            weight += u * power(x, peak);
        }
        if (out) {
            store<T>(out + c, result(sum));
            store<T>(out + s.channels + c, log_change(weight, peak));
        }
        return {peak, inverse(weight)};
    }
};

}  // namespace mlanet
