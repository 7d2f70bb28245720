// What all layers know of the pairs: envelope u, radial basis, directions; and the way back to their vectors.
//
// u(r) = (1 − t)³ Σ_{k<p} (k+1)(k+2)/2 t^k, t = r/r_c · RBF_b = (r_c/2) sin(k_b r)/r · u ·
// G_k = s u (exp(−½ ((r/d − μ_k)/Δ)²) − e^{−40}), d the cutoff or R_i + R_j; see mlanet/nn/radial.py.
#pragma once
#include "../../ops/cpp/threads.hpp"
#include "engine.hpp"
#include "harmonics.hpp"

namespace mlanet {

// u and du/dr; both 0 from the cutoff on.
template <class T, int POWER> INLINE void envelope(Vector<T> r, T cutoff, Vector<T>& u, Vector<T>& slope) {
    Vector<T> t = r * (T(1) / cutoff);
    t = t < T(1) ? t : splat<T>(T(1));
    const Vector<T> left = T(1) - t;
    Vector<T> series = splat<T>(T(POWER * (POWER + 1) / 2)), power = splat<T>(T(1));
    for (int k = POWER - 2; k >= 0; --k) series = series * t + T((k + 1) * (k + 2) / 2);
    for (int k = 0; k < POWER - 1; ++k) power *= t;
    u = left * left * left * series;
    slope = T(-0.5 * POWER * (POWER + 1) * (POWER + 2)) / cutoff * power * left * left;
}

// A function behind the others, for the bias of what is linear in them: u, or 1 up to the cutoff.
enum class Bias { none, enveloped, raw };

template <class T> struct RadialBasis {
    static constexpr double TAIL = -40.0;
    T cutoff = 1;
    std::vector<T> wave_numbers, radius, centers;  // of sines; R of each species, if any, and μ, of Gaussians
    T spread = 1, size = 1;                        // Δ and s
    Bias bias = Bias::none;

    int64_t bessel() const { return int64_t(wave_numbers.size()); }
    int64_t gaussians() const { return int64_t(centers.size()); }
    int64_t functions() const { return bessel() + gaussians() + (bias != Bias::none); }
};

// Angles: what is known of directions (harmonics.hpp); POWER: p of the envelope.
template <class T, class Angles, int POWER> class Pairs {
  public:
    static constexpr int W = Lanes<T>::width, M = Angles::rows;

    // By pair: vectors as the network sees them (E, 3), u (E), basis (E, B), Y or û (E, M); by atom n_i = Σ u.
    T *vectors = nullptr, *u = nullptr, *basis = nullptr, *angular = nullptr, *coordination = nullptr;

    explicit Pairs(const RadialBasis<T>& radial) : radial_(radial) {}

    // Places for the pairs of a structure; `vectors` is then to be filled.
    void take(const Structure& s) {
        count_ = s.start[s.n_local];
        vectors = vectors_.take(3 * count_ + 1), u = u_.take(count_ + 1);
        basis = basis_.take(count_ * radial_.functions() + 1), angular = angular_.take(count_ * M + 1);
        coordination = coordination_.take(s.n_local + 1);
        bond_ = radial_.radius.size() ? bond_store_.take(count_ + W) : nullptr;
    }

    void forward(const Structure& s, int64_t threads) {
        over_centers(s.n_local, threads, s.start, [&](int64_t, int64_t first, int64_t last) {
            if (bond_) bonds(s, first, last);
            for (int64_t e = s.start[first]; e < s.start[last]; e += W) group(e, s.start[last]);
            for (int64_t i = first; i < last; ++i) {
                T sum = 0;
                for (int64_t e = s.start[i]; e < s.start[i + 1]; ++e) sum += u[e];
                coordination[i] = sum;
            }
        });
    }

    // Gradient in `vectors` (E, 3) from those in u, if any, basis and Y or û, of edges alike.
    void backward(const Structure& s, int64_t threads, const T* to_u, const T* to_basis, const T* to_angular, T* to_vectors) {
        over_centers(s.n_local, threads, s.start, [&](int64_t, int64_t first, int64_t last) {
            for (int64_t e = s.start[first]; e < s.start[last]; e += W)
                group_back(e, s.start[last], to_u, to_basis, to_angular, to_vectors);
        });
    }

  private:
    using V = Vector<T>;
    // The geometry of W pairs at a time.
    struct Lane {
        V r, inverse, x, y, z, u, slope;
        int n;
    };
    const RadialBasis<T>& radial_;
    int64_t count_ = 0;
    T* bond_ = nullptr;  // R_i + R_j of each pair
    Buffer<T> vectors_, u_, basis_, angular_, coordination_, bond_store_;

    void bonds(const Structure& s, int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i)
            for (int64_t e = s.start[i]; e < s.start[i + 1]; ++e)
                bond_[e] = radial_.radius[s.species[i]] + radial_.radius[s.species[s.neighbor[e]]];
    }

    Lane lane(int64_t e, int64_t last) const {
        Lane g;
        g.n = int(std::min<int64_t>(W, last - e));
        g.x = g.y = V{}, g.z = splat<T>(2 * radial_.cutoff);
        for (int k = 0; k < g.n; ++k) g.x[k] = vectors[3 * (e + k)], g.y[k] = vectors[3 * (e + k) + 1], g.z[k] = vectors[3 * (e + k) + 2];
        g.r = root<T>(g.x * g.x + g.y * g.y + g.z * g.z);
        g.inverse = T(1) / g.r;
        g.x *= g.inverse, g.y *= g.inverse, g.z *= g.inverse;
        envelope<T, POWER>(g.r, radial_.cutoff, g.u, g.slope);
        return g;
    }

    void group(int64_t e, int64_t last) {
        const Lane g = lane(e, last);
        V Y[M];
        Angles::template values<T>(g.x, g.y, g.z, Y);
        for (int k = 0; k < g.n; ++k) {
            u[e + k] = g.u[k];
            for (int m = 0; m < M; ++m) angular[(e + k) * M + m] = Y[m][k];
        }
        functions(e, g, [&](int64_t b, V value, V) {
            for (int k = 0; k < g.n; ++k) basis[(e + k) * radial_.functions() + b] = value[k];
        });
    }

    void group_back(int64_t e, int64_t last, const T* to_u, const T* to_basis, const T* to_angular, T* to_vectors) const {
        const Lane g = lane(e, last);
        const int64_t B = radial_.functions();
        V to_r{}, up[M], along[3];
        for (int k = 0; to_u && k < g.n; ++k) to_r[k] = to_u[e + k] * g.slope[k];
        functions(e, g, [&](int64_t b, V, V slope) {
            V one{};
            for (int k = 0; k < g.n; ++k) one[k] = to_basis[(e + k) * B + b];
            to_r += one * slope;
        });
        for (int m = 0; m < M; ++m) {
            up[m] = V{};
            for (int k = 0; k < g.n; ++k) up[m][k] = to_angular[(e + k) * M + m];
        }
        Angles::template gradient<T>(g.x, g.y, g.z, up, along);
        const V radial = to_r - (along[0] * g.x + along[1] * g.y + along[2] * g.z) * g.inverse, unit[3] = {g.x, g.y, g.z};
        for (int x = 0; x < 3; ++x) {
            const V found = radial * unit[x] + along[x] * g.inverse;
            for (int k = 0; k < g.n; ++k) to_vectors[3 * (e + k) + x] = found[k];
        }
    }

    // Calls work(b, value, d value/dr) for every function of the basis.
    template <class Work> INLINE void functions(int64_t e, const Lane& g, Work work) const {
        const V factor = T(0.5) * radial_.cutoff * g.u * g.inverse;
        const V change = T(0.5) * radial_.cutoff * g.inverse * (g.slope - g.u * g.inverse);
        for (int64_t b = 0; b < radial_.bessel(); ++b) {
            V sine, cosine;
            sine_and_cosine<T>(g.r * radial_.wave_numbers[b], sine, cosine);
            work(b, sine * factor, cosine * radial_.wave_numbers[b] * factor + sine * change);
        }
        if (radial_.gaussians()) gaussians(e, g, work);
        const int64_t last = radial_.functions() - 1;
        if (radial_.bias == Bias::enveloped) work(last, g.u, g.slope);
        if (radial_.bias == Bias::raw) work(last, g.r <= radial_.cutoff ? splat<T>(T(1)) : V{}, V{});
    }

    template <class Work> INLINE void gaussians(int64_t e, const Lane& g, Work work) const {
        V length = splat<T>(radial_.cutoff);
        for (int k = 0; bond_ && k < g.n; ++k) length[k] = bond_[e + k];
        const T tail = T(std::exp(RadialBasis<T>::TAIL)), size = radial_.size;
        for (int64_t b = 0; b < radial_.gaussians(); ++b) {
            const V offset = (g.r / length - radial_.centers[b]) / radial_.spread, exponent = T(-0.5) * offset * offset;
            const auto far = exponent < T(RadialBasis<T>::TAIL);
            const V power = exponential<T>(far ? splat<T>(T(RadialBasis<T>::TAIL)) : exponent);
            const V value = far ? V{} : power - tail, slope = far ? V{} : -power * offset / (radial_.spread * length);
            work(radial_.bessel() + b, size * value * g.u, size * (slope * g.u + value * g.slope));
        }
    }
};

}  // namespace mlanet
