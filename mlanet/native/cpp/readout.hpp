// From the scalars of the last layer to energies: pooling over the neighbours, and a network of two layers,
// e(x) = w · f SiLU(W x + b) + b'.
//
// e(x_i) or e(x_i ‖ Σ_j u y_j / n̄ ‖ Σ_j u y_j / (1 + n_i) ‖ smooth max_j y_j), y = b tanh(x/b): mlanet/nn/pooling.py.
#pragma once
#include "../../ops/cpp/pooling.hpp"
#include "dense.hpp"
#include "step.hpp"

namespace mlanet {

struct ReadoutSettings {
    int64_t channels, hidden;
    double factor = 1;          // f
    bool local = false;         // whether neighbours are pooled
    double mean_neighbors = 1;  // n̄
    double bound = 0;           // b, or 0 for none
};

template <class T> class Readout {
  public:
    static constexpr int W = Lanes<T>::width;

    COLD Readout(const ModelFile& file, const ReadoutSettings& s)
        : s_(s), local_(s.local), bound_(T(s.bound)), mean_(T(s.mean_neighbors)), channels_(whole<T>(s.channels)),
          hidden_(whole<T>(s.hidden)), views_(s.local ? 4 : 1) {
        first_.read(file, "readout.first", s.channels, 1, s.hidden, true, views_);
        last_ = padded(file.numbers<T>("readout.last.weight", {1, s.hidden}), 1, 1, 1, s.hidden, 1, hidden_);
        bias_ = file.numbers<T>("readout.last.bias", {1})[0];
    }
    int64_t features() const { return s_.hidden; }
    int64_t largest_width() const { return local_ ? channels_ : 0; }

    // Scalars (n_local, C) -> site energies (n_local).
    void forward(const Step<T>& step, const T* scalars, const T* coordination, T* site) {
        const int64_t n = step.structure->n_local, wide = views_ * channels_;
        input_ = input_store_.take(n * wide + 1), state_ = state_store_.take(n * hidden_ + 1);
        acted_ = acted_store_.take(n * hidden_ + 1);
        if (local_) pool(step, scalars, coordination);
        else std::copy_n(scalars, n * channels_, input_);
        over_nodes(n, step.threads, [&](int64_t, int64_t from, int64_t to) {
            first_.forward(to - from, input_ + from * wide, wide, state_ + from * hidden_, hidden_);
            silu_forward<T>((to - from) * hidden_, state_ + from * hidden_, acted_ + from * hidden_, T(s_.factor));
            for (int64_t i = from; i < to; ++i) {
                Vector<T> sum{};
                for (int64_t c = 0; c < hidden_; c += W) sum += load<T>(acted_ + i * hidden_ + c) * load<T>(last_.data() + c);
                site[i] = bias_ + total<T>(sum);
            }
        });
    }
    // What the last layer saw of atom i.
    const T* features_of(int64_t i) const { return acted_ + i * hidden_; }

    // up (n_local) of site energies -> to (n_local, C); adds to the gradients in u of the pairs and in n_i.
    void backward(const Step<T>& step, const T* coordination, const T* up, T* to, T* to_envelope, T* to_coordination) {
        const int64_t n = step.structure->n_local, wide = views_ * channels_;
        T* to_input = to_input_store_.take(n * wide + 1);
        over_nodes(n, step.threads, [&](int64_t, int64_t from, int64_t end) {
            for (int64_t i = from; i < end; ++i) {
                T* row = acted_ + i * hidden_;
                for (int64_t c = 0; c < hidden_; c += W) store<T>(row + c, load<T>(last_.data() + c) * up[i]);
                silu_backward<T>(hidden_, state_ + i * hidden_, row, row, T(s_.factor));
            }
            first_.backward(end - from, acted_ + from * hidden_, hidden_, to_input + from * wide, wide, false);
        });
        if (local_) pool_back(step, coordination, to_input, to, to_envelope, to_coordination);
        else std::copy_n(to_input, n * channels_, to);
    }

  private:
    ReadoutSettings s_;
    bool local_;
    T bound_, mean_;
    int64_t channels_, hidden_, views_;
    ScalarLinear<T> first_;
    std::vector<T> last_;
    T bias_ = 0, *input_ = nullptr, *state_ = nullptr, *acted_ = nullptr, *seen_ = nullptr;
    Buffer<T> input_store_, state_store_, acted_store_, seen_store_, pooled_store_, to_input_store_, to_pooled_, to_seen_;

    PoolingSizes sizes(const Step<T>& step) const {
        return {step.structure->n_local, step.structure->n_total, channels_, step.threads};
    }

    // b tanh(x/b), by e^{2x/b}.
    Vector<T> bounded(Vector<T> x) const {
        if (bound_ == 0) return x;
        for (int k = 0; k < W; ++k) x[k] = bound_ * std::tanh(x[k] / bound_);
        return x;
    }

    void pool(const Step<T>& step, const T* scalars, const T* coordination) {
        const Structure& s = *step.structure;
        seen_ = seen_store_.take(s.n_total * channels_ + 1);
        T* pooled = pooled_store_.take(s.n_local * 2 * channels_ + 1);
        for (int64_t k = 0; k < s.n_local * channels_; k += W) store<T>(seen_ + k, bounded(load<T>(scalars + k)));
        step.forward(seen_, channels_);
        const PoolingSizes size = sizes(step);
        const PoolingInputs<T, 1> inputs{{seen_}, {step.envelope}};
        over_centers(s.n_local, step.threads, s.start, [&](int64_t, int64_t first, int64_t last) {
            const Pooling<T, 1> work(size, inputs, s.neighbor, s.start);
            for (int64_t i = first; i < last; ++i) {
                work.value(i, pooled + i * 2 * channels_);
                view(i, scalars + i * channels_, pooled + i * 2 * channels_, 1 / (1 + coordination[i]));
            }
        });
    }

    void view(int64_t i, const T* scalars, const T* pooled, T inverse) {
        T* row = input_ + i * views_ * channels_;
        for (int64_t c = 0; c < channels_; c += W) {
            const Vector<T> around = load<T>(pooled + c);
            store<T>(row + c, load<T>(scalars + c));
            store<T>(row + channels_ + c, around / mean_);
            store<T>(row + 2 * channels_ + c, around * inverse);
            store<T>(row + 3 * channels_ + c, load<T>(pooled + channels_ + c));
        }
    }

    void pool_back(const Step<T>& step, const T* coordination, const T* up, T* to, T* to_envelope, T* to_coordination) {
        const Structure& s = *step.structure;
        T* to_pooled = to_pooled_.take(s.n_local * 2 * channels_ + 1);
        const int64_t all = s.n_total * channels_;
        T* to_seen = to_seen_.take(step.threads * all + 1);
        const PoolingSizes size = sizes(step);
        const PoolingInputs<T, 1> inputs{{seen_}, {step.envelope}};
        const T* pooled = pooled_store_.take(0);
        over_centers(s.n_local, step.threads, s.start, [&](int64_t t, int64_t first, int64_t last) {
            const Pooling<T, 1> work(size, inputs, s.neighbor, s.start);
            const PoolingSums<T> sums{nullptr, to_seen + t * all, to_envelope};
            std::fill_n(sums.features, all, T(0));
            for (int64_t i = first; i < last; ++i) {
                to_coordination[i] += view_back(i, up, pooled + i * 2 * channels_, to_pooled, 1 / (1 + coordination[i]));
                work.gradient(i, to_pooled + i * 2 * channels_, sums);
            }
        });
        for (int64_t t = 1; t < step.threads; ++t)
            for (int64_t k = 0; k < all; k += W) store<T>(to_seen + k, load<T>(to_seen + k) + load<T>(to_seen + t * all + k));
        step.reverse(to_seen, channels_);
        for (int64_t i = 0; i < s.n_local; ++i)
            for (int64_t c = 0; c < channels_; c += W) {
                const Vector<T> y = load<T>(seen_ + i * channels_ + c), ratio = bound_ == 0 ? Vector<T>{} : y / bound_;
                const Vector<T> own = load<T>(up + i * views_ * channels_ + c);
                store<T>(to + i * channels_ + c, own + load<T>(to_seen + i * channels_ + c) * (T(1) - ratio * ratio));
            }
    }

    // Gradients in sum and maximum of the neighbours of atom i; returns that in n_i.
    T view_back(int64_t i, const T* up, const T* pooled, T* to_pooled, T inverse) const {
        const T* row = up + i * views_ * channels_;
        T* to = to_pooled + i * 2 * channels_;
        Vector<T> sum{};
        for (int64_t c = 0; c < channels_; c += W) {
            const Vector<T> to_mean = load<T>(row + 2 * channels_ + c);
            store<T>(to + c, load<T>(row + channels_ + c) / mean_ + to_mean * inverse);
            store<T>(to + channels_ + c, load<T>(row + 3 * channels_ + c));
            sum += to_mean * load<T>(pooled + c);
        }
        return -inverse * inverse * total<T>(sum);
    }
};

}  // namespace mlanet
