// Weights of atoms' networks, packed once, and products with them; features (N, (L+1)², C) with C whole vectors.
#pragma once
#include "../../ops/cpp/matrix.hpp"
#include "file.hpp"

namespace mlanet {

template <class T> int64_t whole(int64_t size) { return rounded_up(size, Lanes<T>::width); }

// A matrix whose rows and columns come in groups of equal size, each group filled up with zeros.
template <class T>
COLD std::vector<T> padded(const std::vector<T>& from, int64_t row_groups, int64_t rows, int64_t column_groups, int64_t columns,
                      int64_t row_size, int64_t column_size) {
    std::vector<T> to(row_groups * row_size * column_groups * column_size, T(0));
    const int64_t wide = column_groups * columns;
    for (int64_t a = 0; a < row_groups; ++a)
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t b = 0; b < column_groups; ++b)
                std::copy_n(from.data() + (a * rows + r) * wide + b * columns, columns,
                            to.data() + ((a * row_size + r) * column_groups + b) * column_size);
    return to;
}

// The layers of a radial network (in, out), inner widths and `groups` of outputs filled up; as RadialWeights takes them.
template <class T> struct RadialLayers {
    std::vector<int64_t> widths;
    std::vector<std::vector<T>> weights;
};

template <class T>
COLD RadialLayers<T> radial_layers(const ModelFile& file, const std::string& name, int64_t functions,
                              const std::vector<int64_t>& hidden, int64_t groups, int64_t channels) {
    RadialLayers<T> made{{functions}, {}};
    for (size_t k = 0; k <= hidden.size(); ++k) {
        const bool last = k == hidden.size();
        const int64_t rows = k ? hidden[k - 1] : functions, columns = last ? channels : hidden[k], n = last ? groups : 1;
        const auto w = file.numbers<T>(name + "." + std::to_string(k), {rows, n * columns});
        made.weights.push_back(padded(w, 1, rows, n, columns, made.widths.back(), whole<T>(columns)));
        made.widths.push_back(n * whole<T>(columns));
    }
    return made;
}

// y = x W and its transpose; W (in, out) or, as torch's linear layers have it, (out, in).
template <class T> class Matrix {
  public:
    COLD void pack(const std::vector<T>& w, int64_t in, int64_t out, bool transposed = false) {
        const int64_t by_in = transposed ? 1 : out, by_out = transposed ? in : 1;
        forward_.pack(w.data(), by_in, by_out, in, out);
        backward_.pack(w.data(), by_out, by_in, out, in);
    }
    // Rows of x and y lie `x_row` and `y_row` numbers apart; `add`: to what is in y.
    void forward(int64_t rows, const T* x, int64_t x_row, T* y, int64_t y_row, bool add = false) const {
        forward_.times(rows, at(x), x_row, at(y), y_row, add);
    }
    void backward(int64_t rows, const T* up, int64_t up_row, T* to, int64_t to_row, bool add = false) const {
        backward_.times(rows, at(up), up_row, at(to), to_row, add);
    }

  private:
    Panels<T> forward_, backward_;
    static Array<T, 1> at(const T* place) { return {const_cast<T*>(place)}; }
};

// One matrix for every degree 0 … L_out; features whose rows have `in` or `out` numbers, filled up to whole vectors.
template <class T> class DegreeLinear {
  public:
    COLD void read(const ModelFile& file, const std::string& name, int64_t l_out, int64_t in, int64_t out) {
        const std::vector<T> all = file.numbers<T>(name, {l_out + 1, in, out});
        l_out_ = l_out, in_ = whole<T>(in), out_ = whole<T>(out);
        for (int64_t l = 0; l <= l_out; ++l)
            of_[l].pack(std::vector<T>(all.begin() + l * in * out, all.begin() + (l + 1) * in * out), in, out);
    }
    // x (n, x_rows, in) -> y (n, y_rows, out), rows 0 … (L_out+1)² − 1 of both.
    void forward(int64_t n, const T* x, int64_t x_rows, T* y, int64_t y_rows, bool add = false) const {
        for (int64_t l = 0; l <= l_out_; ++l)
            for (int64_t m = l * l; m < (l + 1) * (l + 1); ++m)
                of_[l].forward(n, x + m * in_, x_rows * in_, y + m * out_, y_rows * out_, add);
    }
    void backward(int64_t n, const T* up, int64_t up_rows, T* to, int64_t to_rows, bool add = false) const {
        for (int64_t l = 0; l <= l_out_; ++l)
            for (int64_t m = l * l; m < (l + 1) * (l + 1); ++m)
                of_[l].backward(n, up + m * out_, up_rows * out_, to + m * in_, to_rows * in_, add);
    }

  private:
    static constexpr int MOST_DEGREES = 4;
    int64_t l_out_ = 0, in_ = 0, out_ = 0;
    Matrix<T> of_[MOST_DEGREES];
};

// y = x W + b of scalars, by columns in groups that are filled up, and back.
template <class T> class ScalarLinear {
  public:
    // torch's weight (groups · out, in) and bias; without a bias if `bias` is false.
    COLD void read(const ModelFile& file, const std::string& name, int64_t in, int64_t groups, int64_t out, bool bias,
              int64_t in_groups = 1) {
        const int64_t column = whole<T>(out), row = whole<T>(in);
        width_ = groups * column;
        const std::vector<T> w = file.numbers<T>(name + ".weight", {groups * out, in_groups * in});
        matrix_.pack(padded(w, groups, out, in_groups, in, column, row), in_groups * row, width_, true);
        if (bias) bias_ = padded(file.numbers<T>(name + ".bias", {groups * out}), 1, 1, groups, out, 1, column);
        else bias_.assign(width_, T(0));
    }
    int64_t width() const { return width_; }

    void forward(int64_t n, const T* x, int64_t x_row, T* y, int64_t y_row) const {
        for (int64_t i = 0; i < n; ++i) std::copy(bias_.begin(), bias_.end(), y + i * y_row);
        matrix_.forward(n, x, x_row, y, y_row, true);
    }
    void backward(int64_t n, const T* up, int64_t up_row, T* to, int64_t to_row, bool add) const {
        matrix_.backward(n, up, up_row, to, to_row, add);
    }

  private:
    int64_t width_ = 0;
    std::vector<T> bias_;
    Matrix<T> matrix_;
};

// x / rms(x) · γ, rms² = mean over degrees and channels of |x^l|²/(2l+1), plus 10⁻⁶; see mlanet/nn/equivariant.py.
template <class T, int L> class Norm {
  public:
    static constexpr int W = Lanes<T>::width, M = (L + 1) * (L + 1);

    COLD void read(const ModelFile& file, const std::string& name, int64_t channels) {
        channels_ = channels, width_ = whole<T>(channels);
        gain_ = padded(file.numbers<T>(name, {L + 1, channels}), L + 1, 1, 1, channels, 1, width_);
    }
    // One atom: x (M, C) -> y.
    void forward(const T* x, T* y) const {
        const T factor = scale(x);
        for (int l = 0; l <= L; ++l)
            for (int64_t k = l * l * width_; k < (l + 1) * (l + 1) * width_; k += width_)
                for (int64_t c = 0; c < width_; c += W)
                    store<T>(y + k + c, load<T>(x + k + c) * factor * load<T>(gain_.data() + l * width_ + c));
    }
    // Adds the gradient in x to `to`.
    void backward(const T* x, const T* up, T* to) const {
        const T factor = scale(x);
        Vector<T> sum{};
        for (int m = 0; m < M; ++m)
            for (int64_t c = 0; c < width_; c += W) sum += gained(up, m, c) * load<T>(x + m * width_ + c);
        const T common = -factor * factor * factor * total<T>(sum);
        for (int m = 0; m < M; ++m)
            for (int64_t c = 0; c < width_; c += W) {
                T* place = to + m * width_ + c;
                store<T>(place, load<T>(place) + factor * gained(up, m, c) + common * share(m) * load<T>(x + m * width_ + c));
            }
    }

  private:
    int64_t channels_ = 0, width_ = 0;
    std::vector<T> gain_;

    static int degree(int m) { return m < 1 ? 0 : m < 4 ? 1 : m < 9 ? 2 : 3; }
    // 1 / ((2l+1) (L+1) C); rounded to float32 once, as the weights of rows in Python are.
    T share(int m) const { return T(1.0f / float((2 * degree(m) + 1) * (L + 1))) / T(channels_); }
    Vector<T> gained(const T* up, int m, int64_t c) const {
        return load<T>(up + m * width_ + c) * load<T>(gain_.data() + degree(m) * width_ + c);
    }
    T scale(const T* x) const {
        T mean = 0;
        for (int m = 0; m < M; ++m) {
            Vector<T> sum{};
            for (int64_t c = 0; c < width_; c += W) sum += load<T>(x + m * width_ + c) * load<T>(x + m * width_ + c);
            mean += share(m) * total<T>(sum);
        }
        return T(1) / std::sqrt(mean + T(1e-6));
    }
};

// SiLU times a factor over `count` numbers, whole vectors: y = f x σ(x), and up · f σ (1 + x (1 − σ)).
template <class T> void silu_forward(int64_t count, const T* x, T* y, T factor = 1) {
    for (int64_t k = 0; k < count; k += Lanes<T>::width)
        store<T>(y + k, load<T>(x + k) * sigmoid<T>(load<T>(x + k)) * factor);
}
template <class T> void silu_backward(int64_t count, const T* x, const T* up, T* to, T factor = 1) {
    for (int64_t k = 0; k < count; k += Lanes<T>::width) {
        const Vector<T> in = load<T>(x + k), gate = sigmoid<T>(in);
        store<T>(to + k, load<T>(up + k) * factor * gate * (T(1) + in * (T(1) - gate)));
    }
}

// y = W₂ f SiLU(W₁ x + b₁) + b₂ of scalars, whose columns come in groups that are filled up.
template <class T> class TwoLayers {
  public:
    explicit TwoLayers(double factor) : factor_(T(factor)) {}
    COLD void read(const ModelFile& file, const std::string& name, int64_t in_groups, int64_t in, int64_t hidden, int64_t groups,
              int64_t out) {
        first_.read(file, name + ".first", in, 1, hidden, true, in_groups);
        second_.read(file, name + ".second", hidden, groups, out, true);
    }
    int64_t hidden() const { return first_.width(); }
    int64_t width() const { return second_.width(); }

    // x -> y (n, width); `state` (n, hidden) is what `backward` wants, `acted` (n, hidden) is overwritten.
    void forward(int64_t n, const T* x, int64_t x_row, T* state, T* acted, T* y) const {
        first_.forward(n, x, x_row, state, hidden());
        silu_forward<T>(n * hidden(), state, acted, factor_);
        second_.forward(n, acted, hidden(), y, width());
    }
    void backward(int64_t n, const T* state, T* acted, const T* up, T* to, int64_t to_row, bool add) const {
        second_.backward(n, up, width(), acted, hidden(), false);
        silu_backward<T>(n * hidden(), state, acted, acted, factor_);
        first_.backward(n, acted, hidden(), to, to_row, add);
    }

  private:
    T factor_;
    ScalarLinear<T> first_, second_;
};

}  // namespace mlanet
