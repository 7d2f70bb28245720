// The native engine, whole: compile this file. With MLANET_ONLY given, as LEIGNN<float> or MLANet<double, 2>, it serves
// models of this kind, precision and l_max only, and compiles in an eighth of the time.
#include "engine.hpp"

#include "leignn_model.hpp"
#include "mlanet_model.hpp"

namespace mlanet {

namespace {

template <class Model> std::unique_ptr<Engine> made(const ModelFile& file) {
#ifdef MLANET_ONLY
    constexpr bool compiled = std::is_same<Model, MLANET_ONLY>::value;
#else
    constexpr bool compiled = true;
#endif
    if constexpr (compiled) return std::make_unique<Model>(file);
    else throw Error("this library was compiled for another kind of model, precision or l_max");
}

template <class T> std::unique_ptr<Engine> of_precision(const ModelFile& file) {
    if (file.header().word("model", {"mlanet", "leignn"})) return made<LEIGNN<T>>(file);
    switch (file.header()["settings"]["l_max"].whole(1, 3)) {
        case 1: return made<MLANet<T, 1>>(file);
        case 2: return made<MLANet<T, 2>>(file);
        default: return made<MLANet<T, 3>>(file);
    }
}

}  // namespace

std::unique_ptr<Engine> Engine::read(const void* bytes, size_t size, Precision precision) {
    const auto* first = static_cast<const unsigned char*>(bytes);
    const ModelFile file(std::vector<unsigned char>(first, first + size));
    if (precision == Precision::stored)
        precision = file.header().word("precision", {"float32", "float64"}) ? Precision::float64 : Precision::float32;
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
