// Products of tall, thin matrices that stay in the cache: rows of edges times weights.
#pragma once
#include <algorithm>
#include <type_traits>

#include "simd.hpp"

namespace mlanet {

INLINE int64_t rounded_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// C (ROWS × COLS vectors) = or += A B; a of row r and step k is a[r * by_row + k * by_step].
template <class T, int ROWS, int COLS>
void tile(int64_t steps, const T* a, int64_t by_row, int64_t by_step, const T* b, int64_t b_row, T* c, int64_t c_row,
          bool add) {
    constexpr int W = Lanes<T>::width;
    Vector<T> sum[ROWS][COLS];
    for (int r = 0; r < ROWS; ++r)
        for (int q = 0; q < COLS; ++q) sum[r][q] = add ? load<T>(c + r * c_row + q * W) : Vector<T>{};
    for (int64_t k = 0; k < steps; ++k) {
        Vector<T> row[COLS];
        for (int q = 0; q < COLS; ++q) row[q] = load<T>(b + k * b_row + q * W);
        for (int r = 0; r < ROWS; ++r) {
            const T factor = a[r * by_row + k * by_step];
            for (int q = 0; q < COLS; ++q) sum[r][q] += factor * row[q];
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int q = 0; q < COLS; ++q) store<T>(c + r * c_row + q * W, sum[r][q]);
}

constexpr int TILE_ROWS = 6;  // with TILE_COLS vectors, as many sums as registers hold

// All rows of one strip of COLS vectors.
template <class T, int COLS>
void strip(int64_t rows, int64_t steps, const T* a, int64_t by_row, int64_t by_step, const T* b, int64_t b_row, T* c,
           int64_t c_row, bool add) {
    int64_t r = 0;
    for (; r + TILE_ROWS <= rows; r += TILE_ROWS)
        tile<T, TILE_ROWS, COLS>(steps, a + r * by_row, by_row, by_step, b, b_row, c + r * c_row, c_row, add);
    a += r * by_row, c += r * c_row;
    switch (rows - r) {
        case 5: return tile<T, 5, COLS>(steps, a, by_row, by_step, b, b_row, c, c_row, add);
        case 4: return tile<T, 4, COLS>(steps, a, by_row, by_step, b, b_row, c, c_row, add);
        case 3: return tile<T, 3, COLS>(steps, a, by_row, by_step, b, b_row, c, c_row, add);
        case 2: return tile<T, 2, COLS>(steps, a, by_row, by_step, b, b_row, c, c_row, add);
        case 1: return tile<T, 1, COLS>(steps, a, by_row, by_step, b, b_row, c, c_row, add);
        default: return;
    }
}

// Calls work with `width` as a constant, COLS <= width <= TILE_COLS.
template <int COLS, class Work> void with_width(int64_t width, Work work) {
    if constexpr (COLS < TILE_COLS)
        if (width != COLS) return with_width<COLS + 1>(width, work);
    work(std::integral_constant<int, COLS>{});
}

// Rows times `vectors` columns of vectors; `panel` tells where the strip of a column begins, `b_row` its row length.
template <class T, class Panel>
void product(int64_t rows, int64_t steps, int64_t vectors, const T* a, int64_t by_row, int64_t by_step, Panel panel,
             T* c, int64_t c_row, bool add) {
    constexpr int W = Lanes<T>::width;
    for (int64_t q = 0; q < vectors; q += TILE_COLS) {
        const int64_t width = std::min<int64_t>(TILE_COLS, vectors - q);
        const auto b = panel(q, width);
        with_width<1>(width, [&](auto columns) {
            strip<T, columns>(rows, steps, a, by_row, by_step, b.first, b.row, c + q * W, c_row, add);
        });
    }
}

template <class T> struct Strip {
    const T* first;
    int64_t row;
};

// Weights (steps × columns), cut into strips of TILE_COLS vectors that are contiguous in memory; columns filled up
// with zeros to whole vectors.
template <class T> class Panels {
  public:
    // Of a matrix whose entry (k, q) is from[k * by_step + q * by_column].
    void pack(const T* from, int64_t by_step, int64_t by_column, int64_t steps, int64_t columns) {
        steps_ = steps, columns_ = rounded_up(columns, W);
        T* data = data_ = memory_.take(steps * columns_);
        std::fill(data, data + steps * columns_, T(0));
        for (int64_t first = 0; first < columns_; first += STRIP) {
            const int64_t width = std::min<int64_t>(STRIP, columns_ - first);
            for (int64_t k = 0; k < steps; ++k)
                for (int64_t q = 0; q < width && first + q < columns; ++q)
                    data[first * steps + k * width + q] = from[k * by_step + (first + q) * by_column];
        }
    }
    int64_t columns() const { return columns_; }

    // C (rows × columns) = or += A (rows × steps) · this, for values and derivatives alike.
    template <int P> void times(int64_t rows, Array<T, P> a, int64_t a_row, Array<T, P> c, int64_t c_row, bool add) const {
        plane(rows, a.v, a_row, c.v, c_row, add);
        if constexpr (P == 2) plane(rows, a.d, a_row, c.d, c_row, add);
    }

  private:
    static constexpr int W = Lanes<T>::width, STRIP = TILE_COLS * W;
    int64_t steps_ = 0, columns_ = 0;
    T* data_ = nullptr;
    Buffer<T> memory_;

    void plane(int64_t rows, const T* a, int64_t a_row, T* c, int64_t c_row, bool add) const {
        auto panel = [&](int64_t q, int64_t width) { return Strip<T>{data_ + q * W * steps_, width * W}; };
        product<T>(rows, steps_, columns_ / W, a, a_row, 1, panel, c, c_row, add);
    }
};

// W (inner × columns) += Aᵀ B over the rows: gradients of weights. Dual: the derivative of that product.
template <class T>
void add_outer(int64_t rows, const T* a, int64_t a_row, int64_t inner, const T* b, int64_t b_row, int64_t columns, T* w) {
    constexpr int W = Lanes<T>::width;
    auto panel = [&](int64_t q, int64_t) { return Strip<T>{b + q * W, b_row}; };
    product<T>(inner, rows, columns / W, a, 1, a_row, panel, w, columns, true);
}
template <class T>
void add_outer(int64_t rows, Array<T, 1> a, int64_t a_row, int64_t inner, Array<T, 1> b, int64_t b_row, int64_t columns,
               T* w) {
    add_outer<T>(rows, a.v, a_row, inner, b.v, b_row, columns, w);
}
template <class T>
void add_outer(int64_t rows, Array<T, 2> a, int64_t a_row, int64_t inner, Array<T, 2> b, int64_t b_row, int64_t columns,
               T* w) {
    add_outer<T>(rows, a.v, a_row, inner, b.d, b_row, columns, w);
    add_outer<T>(rows, a.d, a_row, inner, b.v, b_row, columns, w);
}

}  // namespace mlanet
