// The whole of MLANet: from the vectors of pairs to energies, and back to forces; see mlanet/models/mlanet.py.
#pragma once
#include "../../ops/cpp/directions.hpp"
#include "network.hpp"
#include "settings.hpp"

namespace mlanet {

template <class T, int L> class MLANet final : public Network<T, Harmonics<L>, 6> {
    using Base = Network<T, Harmonics<L>, 6>;

  public:
    static constexpr int M = Base::M;

    explicit MLANet(const ModelFile& file) : MLANet(file, MLANetSettings(file.header()["settings"])) {}

    int64_t largest_width() const override {
        int64_t most = std::max<int64_t>(1, readout_.largest_width());
        for (const auto& layer : layers_) most = std::max(most, layer->largest_width());
        return most;
    }

    void compute(const Structure& s, Exchange* exchange, Answer& answer) override {
        Step<T> step = this->begin(s, exchange, answer);
        step.factor = factor_.take(s.n_local + 1);
        for (int64_t i = 0; i < s.n_local; ++i) step.factor[i] = 1 + pairs_.coordination[i] / T(settings_.mean_neighbors);
        const T* features = embed(step);
        for (auto& layer : layers_) layer->forward(step, features), features = layer->output();
        double* atomic = this->site_energies(step, features);
        for (int64_t i = 0; settings_.bonded && i < s.n_local; ++i)
            atomic[i] -= double(shift_[s.species[i]] * std::expm1(-pairs_.coordination[i]));
        this->tell(s, atomic, answer);
        backward(step, answer);
    }

  private:
    using Base::channels_, Base::embedding_, Base::pairs_, Base::radial_, Base::readout_, Base::kinds_;

    MLANetSettings settings_;
    std::vector<T> sender_, shift_;
    Graph graph_{};
    RadialWeights<T> direction_weights_;
    DirectionSizes direction_sizes_{};
    DirectionInputs<T, 1> direction_inputs_{};
    CouplingTable<T> couplings_;
    TermTable<T> terms_, last_terms_;
    std::vector<std::unique_ptr<Layer<T, L>>> layers_;
    std::vector<std::unique_ptr<Directions<T, L, 1>>> directions_;
    Buffer<T> factor_, features_, senders_, up_[2], to_coordination_;

    COLD MLANet(const ModelFile& file, const MLANetSettings& settings) : Base(file, settings.readout()), settings_(settings) {
        if (settings.l_max != L) throw Error("the header holds another l_max than expected");
        const int64_t c = settings.channels, functions = settings.functions();
        read_radial(file);
        sender_ = padded(file.numbers<T>("sender", {kinds_, c}), 1, kinds_, 1, c, kinds_, channels_);
        if (settings.bonded) shift_ = file.numbers<T>("bonded", {kinds_});
        const auto radial = radial_layers<T>(file, "directions", functions, settings.radial_hidden, L, c);
        const T* raw[MAX_DEPTH] = {};
        for (size_t k = 0; k < radial.weights.size(); ++k) raw[k] = radial.weights[k].data();
        direction_weights_.pack(int64_t(radial.weights.size()), radial.widths.data(), raw);
        direction_sizes_.channels = channels_, direction_sizes_.functions = functions;
        direction_sizes_.depth = int64_t(radial.weights.size());
        std::copy(radial.widths.begin(), radial.widths.end(), direction_sizes_.widths);
        direction_sizes_.factor = 1 / std::sqrt(settings.mean_neighbors);
        if (settings.full) read_couplings(file, L, couplings_);
        if (settings.product && settings.layers > 1) read_terms(file, "terms", L, L, terms_);
        if (settings.product) read_terms(file, "last_terms", L, 0, last_terms_);
        for (int64_t k = 0; k < settings.layers; ++k) {
            const bool last = k + 1 == settings.layers;
            layers_.push_back(std::make_unique<Layer<T, L>>(file, "layers." + std::to_string(k), settings.layer(last ? 0 : L),
                                                            &couplings_, last ? &last_terms_ : &terms_));
        }
    }

    COLD void read_radial(const ModelFile& file) {
        radial_.wave_numbers = file.numbers<T>("radial.wave_numbers", {settings_.bessel});
        if (!settings_.bonds) return;
        radial_.size = T(1.5);
        radial_.centers = file.numbers<T>("bonds.centers", {settings_.bonds});
        radial_.radius = file.numbers<T>("bonds.radius", {kinds_});
        radial_.spread = file.numbers<T>("bonds.spread", {1})[0];
        for (T one : radial_.radius)
            if (!(one > 0)) throw Error("tensor 'bonds.radius' must be positive");
        if (!(radial_.spread > 0)) throw Error("tensor 'bonds.spread' must be positive");
    }

    // h⁰ (n_local, M, C): the element, and one look at the directions around.
    const T* embed(const Step<T>& step) {
        const Structure& s = *step.structure;
        T *h = features_.take(s.n_local * M * channels_ + 1), *senders = senders_.take(s.n_total * channels_ + 1);
        for (int64_t j = 0; j < s.n_total; ++j) std::copy_n(sender_.data() + s.species[j] * channels_, channels_, senders + j * channels_);
        direction_sizes_.centers = s.n_local, direction_sizes_.atoms = s.n_total, direction_sizes_.threads = step.threads;
        direction_inputs_ = {{senders}, {step.envelope}, {step.basis}, {step.angular}};
        graph_ = {s.neighbor, s.start};
        while (int64_t(directions_.size()) < step.threads)
            directions_.push_back(std::make_unique<Directions<T, L, 1>>(direction_sizes_, direction_inputs_,
                                                                       direction_weights_, graph_));
        over_centers(s.n_local, step.threads, s.start, [&](int64_t t, int64_t first, int64_t last) {
            for (int64_t i = first; i < last; ++i) {
                T* row = h + i * M * channels_;
                std::copy_n(embedding_.data() + s.species[i] * channels_, channels_, row);
                std::fill_n(row + channels_, (M - 1) * channels_, T(0));
                directions_[t]->message(i, row + channels_);
            }
        });
        return h;
    }

    void backward(const Step<T>& step, Answer& answer) {
        const Structure& s = *step.structure;
        T* to_coordination = to_coordination_.take(s.n_local + 1);
        for (int64_t i = 0; i < s.n_local; ++i)
            to_coordination[i] = settings_.bonded ? shift_[s.species[i]] * std::exp(-pairs_.coordination[i]) : T(0);
        T *up = up_[0].take(s.n_local * M * channels_ + 1), *to = up_[1].take(s.n_local * M * channels_ + 1);
        const PairSums<T> sums = this->pair_sums(s, 0, true), more = this->pair_sums(s, 1, false);
        this->readout_back(step, up, more.envelope, to_coordination);
        if (settings_.local_pooling) plus<T>(s.start[s.n_local], more.envelope, sums.envelope);
        for (size_t k = layers_.size(); k-- > 0; std::swap(up, to)) {
            layers_[k]->backward(step, up, to, more);
            add(s, more, sums);
            for (int64_t i = 0; i < s.n_local; ++i) to_coordination[i] += more.factor[i] / T(settings_.mean_neighbors);
        }
        embed_back(step, up, more);
        add(s, more, sums);
        for (int64_t i = 0; i < s.n_local; ++i)
            for (int64_t e = s.start[i]; e < s.start[i + 1]; ++e) sums.envelope[e] += to_coordination[i];
        this->finish(step, sums, answer);
    }

    // With the gradients in u.
    void add(const Structure& s, const PairSums<T>& from, const PairSums<T>& to) const {
        Base::add(s, from, to);
        plus<T>(s.start[s.n_local], from.envelope, to.envelope);
    }

    void embed_back(const Step<T>& step, const T* up, const PairSums<T>& sums) {
        const Structure& s = *step.structure;
        const DirectionSums<T> to{nullptr, nullptr, sums.envelope, sums.basis, sums.angular, {}};
        over_centers(s.n_local, step.threads, s.start, [&](int64_t t, int64_t first, int64_t last) {
            for (int64_t i = first; i < last; ++i) directions_[t]->gradient(i, up + (i * M + 1) * channels_, to);
        });
    }
};

}  // namespace mlanet
