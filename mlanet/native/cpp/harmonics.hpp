// What networks see of directions: spherical harmonics, e3nn's, `component` normalised, as polynomials of x, y, z, or
// the unit vector itself; and their gradients.
#pragma once
#include "../../ops/cpp/simd.hpp"

namespace mlanet {

// sin x and cos x for |x| up to some ten thousand: x = n π/2 + r, Taylor series in |r| <= π/4.
template <class T> struct Waves;
template <> struct Waves<float> {
    static constexpr float parts[] = {1.5703125f, 4.837512969970703125e-4f, 7.54978995489188216e-8f};
    static constexpr int terms = 5;
};
template <> struct Waves<double> {
    static constexpr double parts[] = {1.57079632673412561417e+00, 6.07710050650619224932e-11, 0.0};
    static constexpr int terms = 9;
};

template <class T> INLINE void sine_and_cosine(Vector<T> x, Vector<T>& sine, Vector<T>& cosine) {
    using K = Lanes<T>;
    using Bits = typename K::Bits;
    const Vector<T> shifted = x * T(0.63661977236758134308) + K::round, n = shifted - K::round;
    const Vector<T> r = x - n * Waves<T>::parts[0] - n * Waves<T>::parts[1] - n * Waves<T>::parts[2], square = r * r;
    Vector<T> odd = splat<T>(T(1)), even = splat<T>(T(1));
    for (int k = Waves<T>::terms; k > 0; --k) {
        odd = T(1) - odd * square * T(1.0 / (2 * k * (2 * k + 1)));
        even = T(1) - even * square * T(1.0 / (2 * k * (2 * k - 1)));
    }
    odd *= r;
    Bits quarter;
    std::memcpy(&quarter, &shifted, sizeof quarter);
    const auto swapped = (quarter & 1) != 0;
    sine = swapped ? even : odd, cosine = swapped ? odd : even;
    sine = (quarter & 2) != 0 ? -sine : sine;
    cosine = ((quarter + 1) & 2) != 0 ? -cosine : cosine;
}

template <class T> INLINE Vector<T> root(Vector<T> x) {
    for (int k = 0; k < Lanes<T>::width; ++k) x[k] = std::sqrt(x[k]);
    return x;
}

namespace factors {
constexpr double s3 = 1.7320508075688772935, s5 = 2.2360679774997896964, s15 = 3.8729833462074168852;
constexpr double s105 = 10.246950765959598383, third = 2.0916500663351888699;  // √7 √90 / 12
constexpr double middle = 1.6201851746019650620, half = 1.3228756555322952953;  // √7 √(3/8), √7 / 2
}  // namespace factors

// Rows 0 … (L+1)² − 1 of Y.
template <class T, int L> INLINE void harmonics(Vector<T> x, Vector<T> y, Vector<T> z, Vector<T>* Y) {
    using namespace factors;
    Y[0] = splat<T>(T(1));
    Y[1] = T(s3) * x, Y[2] = T(s3) * y, Y[3] = T(s3) * z;
    const Vector<T> xx = x * x, yy = y * y, zz = z * z;
    if constexpr (L >= 2) {
        Y[4] = T(s15) * x * z, Y[5] = T(s15) * x * y, Y[6] = T(s5) * (yy - T(0.5) * (xx + zz));
        Y[7] = T(s15) * y * z, Y[8] = T(0.5 * s15) * (zz - xx);
    }
    if constexpr (L >= 3) {
        const Vector<T> flat = T(4) * yy - xx - zz;
        Y[9] = T(third) * x * (T(3) * zz - xx), Y[10] = T(s105) * x * y * z, Y[11] = T(middle) * x * flat;
        Y[12] = T(half) * y * (T(2) * yy - T(3) * (xx + zz)), Y[13] = T(middle) * z * flat;
        Y[14] = T(0.5 * s105) * y * (zz - xx), Y[15] = T(third) * z * (zz - T(3) * xx);
    }
}

// Σ_i g_i ∂Y_i/∂(x, y, z).
template <class T, int L>
INLINE void harmonics_back(Vector<T> x, Vector<T> y, Vector<T> z, const Vector<T>* g, Vector<T>* to) {
    using namespace factors;
    for (int k = 0; k < 3; ++k) to[k] = T(s3) * g[1 + k];
    const Vector<T> xx = x * x, yy = y * y, zz = z * z;
    if constexpr (L >= 2) {
        to[0] += T(s15) * (z * g[4] + y * g[5] - x * g[8]) - T(s5) * x * g[6];
        to[1] += T(s15) * (x * g[5] + z * g[7]) + T(2 * s5) * y * g[6];
        to[2] += T(s15) * (x * g[4] + y * g[7] + z * g[8]) - T(s5) * z * g[6];
    }
    if constexpr (L >= 3) {
        to[0] += T(3 * third) * (zz - xx) * g[9] + T(s105) * y * (z * g[10] - x * g[14]) - T(6 * half) * x * y * g[12];
        to[0] += T(middle) * ((T(4) * yy - T(3) * xx - zz) * g[11] - T(2) * x * z * g[13]) - T(6 * third) * x * z * g[15];
        to[1] += T(s105) * (x * z * g[10] + T(0.5) * (zz - xx) * g[14]) + T(8 * middle) * y * (x * g[11] + z * g[13]);
        to[1] += T(half) * (T(6) * yy - T(3) * (xx + zz)) * g[12];
        to[2] += T(6 * third) * x * z * g[9] + T(s105) * y * (x * g[10] + z * g[14]) - T(6 * half) * y * z * g[12];
        to[2] += T(middle) * ((T(4) * yy - xx - T(3) * zz) * g[13] - T(2) * x * z * g[11]) + T(3 * third) * (zz - xx) * g[15];
    }
}

// What `Pairs` has of a direction, of the unit vector from an atom to its neighbour: Y_l, l <= L, in `rows` numbers.
template <int L> struct Harmonics {
    static constexpr int rows = (L + 1) * (L + 1);
    template <class T> static INLINE void values(Vector<T> x, Vector<T> y, Vector<T> z, Vector<T>* Y) { harmonics<T, L>(x, y, z, Y); }
    template <class T> static INLINE void gradient(Vector<T> x, Vector<T> y, Vector<T> z, const Vector<T>* g, Vector<T>* to) {
        harmonics_back<T, L>(x, y, z, g, to);
    }
};

// The same for û, which points from the neighbour to the atom.
struct Arrow {
    static constexpr int rows = 3;
    template <class T> static INLINE void values(Vector<T> x, Vector<T> y, Vector<T> z, Vector<T>* u) { u[0] = -x, u[1] = -y, u[2] = -z; }
    template <class T> static INLINE void gradient(Vector<T>, Vector<T>, Vector<T>, const Vector<T>* g, Vector<T>* to) {
        for (int k = 0; k < rows; ++k) to[k] = -g[k];
    }
};

}  // namespace mlanet
