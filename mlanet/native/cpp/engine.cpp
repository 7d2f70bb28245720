// The native engine, whole: compile this file. With MLANET_REAL and MLANET_DEGREE given it serves one precision and
// one l_max only, and compiles in a sixth of the time.
#include "engine.hpp"

#include "base.hpp"
#include "mlanet_model.hpp"

namespace mlanet {

namespace {

template <class T, int L> std::unique_ptr<Engine> made(const ModelFile& file) {
#if defined(MLANET_REAL) && defined(MLANET_DEGREE)
    constexpr bool compiled = std::is_same<T, MLANET_REAL>::value && L == MLANET_DEGREE;
#else
    constexpr bool compiled = true;
#endif
    if constexpr (compiled) return std::make_unique<MLANet<T, L>>(file);
    else throw Error("this library was compiled for another precision or l_max");
}

template <class T> std::unique_ptr<Engine> of_precision(const ModelFile& file) {
    switch (file.header()["settings"]["l_max"].whole(1, 3)) {
        case 1: return made<T, 1>(file);
        case 2: return made<T, 2>(file);
        default: return made<T, 3>(file);
    }
}

}  // namespace

std::unique_ptr<Engine> Engine::read(const void* bytes, size_t size, Precision precision) {
    const auto* first = static_cast<const unsigned char*>(bytes);
    const ModelFile file(std::vector<unsigned char>(first, first + size));
    if (const std::string& model = file.header()["model"].text(); model != "mlanet")
        throw Error("the file holds a model of kind '" + model + "', this program knows mlanet");
    if (precision == Precision::stored)
        precision = is(file.header(), "precision", "float32", "float64") ? Precision::float32 : Precision::float64;
    return precision == Precision::float32 ? of_precision<float>(file) : of_precision<double>(file);
}

std::unique_ptr<Engine> Engine::open(const std::string& path, Precision precision) {
    const std::vector<unsigned char> bytes = ModelFile::bytes_of(path);
    try {
        return read(bytes.data(), bytes.size(), precision);
    } catch (const Error& error) {
        throw Error(path + ": " + error.what());
    }
}

}  // namespace mlanet
