// Vectors of the processor's own width, and dual numbers over them: a kernel written once gives values or directional derivatives.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>

#define INLINE inline __attribute__((always_inline))

namespace mlanet {

// Wider vectors than the processor has would go through memory, twenty times slower.
#if defined(__AVX512F__)
constexpr int BYTES = 64, TILE_COLS = 4;
#elif defined(__AVX__)
constexpr int BYTES = 32, TILE_COLS = 2;
#elif defined(__ARM_NEON)
constexpr int BYTES = 16, TILE_COLS = 4;
#else
constexpr int BYTES = 16, TILE_COLS = 2;
#endif

typedef float Floats __attribute__((vector_size(BYTES)));
typedef double Doubles __attribute__((vector_size(BYTES)));
typedef int32_t Ints __attribute__((vector_size(BYTES)));
typedef int64_t Longs __attribute__((vector_size(BYTES)));

template <class T> struct Lanes;

template <> struct Lanes<float> {
    using Vector = Floats;
    using Bits = Ints;
    static constexpr int width = BYTES / 4, mantissa = 23, bias = 127, terms = 7;
    static constexpr float round = 12582912.0f, low = -87.0f, high = 88.0f, ln2 = 0.693359375f, rest = -2.12194440e-4f;
};

template <> struct Lanes<double> {
    using Vector = Doubles;
    using Bits = Longs;
    static constexpr int width = BYTES / 8, mantissa = 52, bias = 1023, terms = 13;
    static constexpr double round = 6755399441055744.0, low = -708.0, high = 709.0;
    static constexpr double ln2 = 6.93145751953125e-1, rest = 1.42860682030941723212e-6;
};

template <class T> using Vector = typename Lanes<T>::Vector;

// a + b ε with ε² = 0: carries a value and its derivative along one direction.
template <class X> struct Dual {
    X v, d;
};

template <class X> INLINE Dual<X> operator+(Dual<X> a, Dual<X> b) { return {a.v + b.v, a.d + b.d}; }
template <class X> INLINE Dual<X> operator-(Dual<X> a, Dual<X> b) { return {a.v - b.v, a.d - b.d}; }
template <class X> INLINE Dual<X> operator-(Dual<X> a) { return {-a.v, -a.d}; }
template <class X> INLINE Dual<X> operator*(Dual<X> a, Dual<X> b) { return {a.v * b.v, a.v * b.d + a.d * b.v}; }
template <class X, class Y> INLINE Dual<X> operator*(Dual<X> a, Y b) { return {a.v * b, a.d * b}; }
template <class X> INLINE Dual<X>& operator+=(Dual<X>& a, Dual<X> b) { return a = a + b; }

// P = 1: plain numbers, P = 2: dual ones.
template <class X, int P> struct NumberOf { using type = X; };
template <class X> struct NumberOf<X, 2> { using type = Dual<X>; };
template <class X, int P> using Number = typename NumberOf<X, P>::type;

template <class X> INLINE X value(X a) { return a; }
template <class X> INLINE X value(Dual<X> a) { return a.v; }

// What a kernel returns: the number itself, or the derivative if it carries one.
template <class X> INLINE X result(X a) { return a; }
template <class X> INLINE X result(Dual<X> a) { return a.d; }

template <class T> INLINE Vector<T> load(const T* from) {
    Vector<T> x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
template <class T> INLINE void store(T* to, Vector<T> x) { std::memcpy(to, &x, sizeof x); }

template <class T> INLINE Vector<T> splat(T x) { return x - Vector<T>{}; }
template <class T> INLINE Dual<Vector<T>> splat(Dual<T> x) { return {splat(x.v), splat(x.d)}; }

// A vector of dual numbers times one dual number.
template <class T> INLINE Dual<Vector<T>> scaled(Dual<Vector<T>> a, Dual<T> b) {
    return {a.v * b.v, a.v * b.d + a.d * b.v};
}
template <class T> INLINE Vector<T> scaled(Vector<T> a, T b) { return a * b; }

template <class T> INLINE T total(Vector<T> x) {
    typedef T Part __attribute__((vector_size(16)));
    Part part[BYTES / 16];
    std::memcpy(part, &x, sizeof x);
    for (int step = BYTES / 32; step; step /= 2)
        for (int k = 0; k < step; ++k) part[k] += part[k + step];
    if constexpr (sizeof(T) == 4) return (part[0][0] + part[0][2]) + (part[0][1] + part[0][3]);
    else return part[0][0] + part[0][1];
}
template <class T> INLINE Dual<T> total(Dual<Vector<T>> x) { return {total<T>(x.v), total<T>(x.d)}; }

// Numbers in memory: values, and for dual ones their derivatives in a second place of the same layout.
template <class T, int P> struct Array;

template <class T> struct Array<T, 1> {
    T* v;
    INLINE Array operator+(int64_t k) const { return {v + k}; }
    INLINE T at(int64_t k) const { return v[k]; }
    INLINE void set(int64_t k, T x) const { v[k] = x; }
    INLINE Vector<T> load(int64_t k) const { return mlanet::load<T>(v + k); }
    INLINE void store(int64_t k, Vector<T> x) const { mlanet::store<T>(v + k, x); }
};

template <class T> struct Array<T, 2> {
    T *v, *d;
    INLINE Array operator+(int64_t k) const { return {v + k, d + k}; }
    INLINE Dual<T> at(int64_t k) const { return {v[k], d[k]}; }
    INLINE void set(int64_t k, Dual<T> x) const { v[k] = x.v, d[k] = x.d; }
    INLINE Dual<Vector<T>> load(int64_t k) const { return {mlanet::load<T>(v + k), mlanet::load<T>(d + k)}; }
    INLINE void store(int64_t k, Dual<Vector<T>> x) const { mlanet::store<T>(v + k, x.v), mlanet::store<T>(d + k, x.d); }
};

// Memory that grows when asked for more, in whole cache lines.
template <class T> class Buffer {
  public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { release(); }

    T* take(int64_t size) {
        if (size > size_) {
            release();
            data_ = static_cast<T*>(::operator new(size * sizeof(T), std::align_val_t(64)));
            size_ = size;
        }
        return data_;
    }

  private:
    T* data_ = nullptr;
    int64_t size_ = 0;

    void release() {
        if (data_) ::operator delete(data_, std::align_val_t(64));
        data_ = nullptr;
    }
};

template <class T, int P> class Store {
  public:
    Array<T, P> take(int64_t size) {
        const int64_t whole = (size + 63) / 64 * 64;
        T* data = memory_.take(P * whole);
        if constexpr (P == 2) return {data, data + whole};
        else return {data};
    }

  private:
    Buffer<T> memory_;
};

// e^x: x = n ln 2 + r, a Taylor series in |r| <= ln 2 / 2, n put into the exponent. NaN stays NaN.
template <class T> INLINE Vector<T> exponential(Vector<T> x) {
    using K = Lanes<T>;
    using Bits = typename K::Bits;
    x = x < K::low ? splat<T>(K::low) : x;
    x = x > K::high ? splat<T>(K::high) : x;
    Vector<T> shifted = x * T(1.44269504088896340736) + K::round;
    Vector<T> n = shifted - K::round;
    Vector<T> r = x - n * K::ln2 - n * K::rest;
    Vector<T> series = splat<T>(T(1));
    for (int k = K::terms; k > 0; --k) series = series * r * T(1.0 / k) + T(1);
    Bits whole, one;
    Vector<T> origin = splat<T>(K::round);
    std::memcpy(&whole, &shifted, sizeof whole);
    std::memcpy(&one, &origin, sizeof one);
    whole = ((whole - one) + K::bias) << K::mantissa;
    Vector<T> power;
    std::memcpy(&power, &whole, sizeof power);
    return series * power;
}

template <class T> INLINE Vector<T> sigmoid(Vector<T> x) { return T(1) / (T(1) + exponential<T>(-x)); }
template <class T> INLINE Dual<Vector<T>> sigmoid(Dual<Vector<T>> x) {
    Vector<T> y = sigmoid<T>(x.v);
    return {y, y * (T(1) - y) * x.d};
}

INLINE float exponential(float x) { return std::exp(x); }
INLINE double exponential(double x) { return std::exp(x); }
template <class T> INLINE Dual<T> exponential(Dual<T> x) {
    T y = std::exp(x.v);
    return {y, y * x.d};
}

INLINE float inverse(float x) { return 1 / x; }
INLINE double inverse(double x) { return 1 / x; }
template <class T> INLINE Dual<T> inverse(Dual<T> x) {
    T y = 1 / x.v;
    return {y, -y * y * x.d};
}

// 1 - y, which operators of vectors have and those of dual numbers need not.
template <class X> INLINE X complement(X y) { return 1 - y; }
template <class X> INLINE Dual<X> complement(Dual<X> y) { return {1 - y.v, -y.d}; }

}  // namespace mlanet
