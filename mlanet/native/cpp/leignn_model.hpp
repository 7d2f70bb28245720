// The whole of LEIGNN, conservative and local: from the vectors of pairs to energies, and back; see mlanet/models/leignn.py.
#pragma once
#include "network.hpp"
#include "scalar_vector.hpp"

namespace mlanet {

// From a file's header; every number is bounded before anything is built from it.
struct LEIGNNSettings {
    int64_t channels, layers, functions;
    bool gaussian, scaled, painn;
    Invariant invariant;
    Bias bias;

    COLD explicit LEIGNNSettings(const Json& s)
        : channels(s["channels"].whole(2, 4096)), layers(s["layers"].whole(1, 64)),
          functions(s["radial_functions"].whole(2, 512)), gaussian(s.word("radial_basis", {"bessel", "gaussian"})),
          scaled(s.word("scaling", {"none", "published"})), painn(s.word("update", {"nmu", "painn"})),
          invariant(Invariant(s.word("invariant", {"soft", "squared", "norm"}))),
          bias(Bias(s.word("filter_bias", {"none", "enveloped", "raw"}))) {
        if (channels % 2) throw Error("channels must be even");
    }

    ReadoutSettings readout() const { return {channels, channels / 2, SCALED_SILU}; }
    ScalarVectorSettings layer(int64_t k) const {
        return {channels, functions + (bias != Bias::none), scaled, painn, invariant, k == 0, k + 1 == layers};
    }
};

template <class T> class LEIGNN final : public Network<T, Arrow, 5> {
    using Base = Network<T, Arrow, 5>;

  public:
    explicit LEIGNN(const ModelFile& file) : LEIGNN(file, LEIGNNSettings(file.header()["settings"])) {}

    int64_t largest_width() const override {
        int64_t most = 1;
        for (const auto& layer : layers_) most = std::max(most, layer->largest_width());
        return most;
    }

    void compute(const Structure& s, Exchange* exchange, Answer& answer) override {
        const Step<T> step = this->begin(s, exchange, answer);
        T* embedded = features_.take(s.n_local * channels_ + 1);
        for (int64_t i = 0; i < s.n_local; ++i) std::copy_n(embedding_.data() + s.species[i] * channels_, channels_, embedded + i * channels_);
        const T* features = embedded;
        for (auto& layer : layers_) layer->forward(step, features), features = layer->output();
        this->tell(s, this->site_energies(step, features), answer);
        backward(step, answer);
    }

  private:
    using Base::channels_, Base::embedding_, Base::radial_;

    std::vector<std::unique_ptr<ScalarVectorLayer<T>>> layers_;
    Buffer<T> features_, up_[2];

    COLD LEIGNN(const ModelFile& file, const LEIGNNSettings& settings) : Base(file, settings.readout()) {
        if (settings.gaussian) {
            radial_.centers = file.numbers<T>("radial.centers", {settings.functions});
            radial_.spread = file.numbers<T>("radial.spread", {1})[0];
            if (!(radial_.spread > 0)) throw Error("tensor 'radial.spread' must be positive");
        } else {
            radial_.wave_numbers = file.numbers<T>("radial.wave_numbers", {settings.functions});
        }
        radial_.bias = settings.bias;
        for (int64_t k = 0; k < settings.layers; ++k)
            layers_.push_back(std::make_unique<ScalarVectorLayer<T>>(file, "layers." + std::to_string(k), settings.layer(k)));
    }

    void backward(const Step<T>& step, Answer& answer) {
        const Structure& s = *step.structure;
        const int64_t size = s.n_local * ScalarVectorLayer<T>::ROWS * channels_ + 1;
        T *up = up_[0].take(size), *to = up_[1].take(size);
        PairSums<T> sums = this->pair_sums(s, 0, true);
        const PairSums<T> more = this->pair_sums(s, 1, false);
        this->readout_back(step, up, nullptr, nullptr);
        for (size_t k = layers_.size(); k-- > 0; std::swap(up, to)) {
            layers_[k]->backward(step, up, to, more);
            this->add(s, more, sums);
        }
        sums.envelope = nullptr;  // it acts through the basis alone
        this->finish(step, sums, answer);
    }
};

}  // namespace mlanet
