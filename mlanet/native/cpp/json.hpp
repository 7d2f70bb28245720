// The JSON of a model file's header: a small reader that refuses what it does not understand.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <locale>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "engine.hpp"

// What runs once, when a file is read: it is to be small, and quick to compile.
#define COLD __attribute__((cold, noinline))

namespace mlanet {

// One value; asking for another kind than it is throws `Error`.
class Json {
  public:
    enum class Kind { nothing, boolean, number, text, list, table };

    static Json parse(const char* first, const char* last);

    const std::string& text() const { return require(Kind::text, "a text"), text_; }
    const std::vector<Json>& list() const { return require(Kind::list, "a list"), list_; }
    bool boolean() const { return require(Kind::boolean, "true or false"), number_ != 0; }
    bool is_nothing() const { return kind_ == Kind::nothing; }

    COLD double number() const {
        require(Kind::number, "a number");
        if (!std::isfinite(number_)) throw Error("the header holds a number that is not finite");
        return number_;
    }
    // A whole number from `least` to `most`.
    COLD int64_t whole(int64_t least, int64_t most) const {
        const double found = number();
        if (!(found >= double(least) && found <= double(most)) || found != std::floor(found))
            throw Error("the header holds " + shown(found) + ", expected a whole number from " + std::to_string(least) +
                        " to " + std::to_string(most));
        return int64_t(found);
    }
    // Which of the words that are known the entry `key` is.
    COLD size_t word(const std::string& key, std::initializer_list<const char*> known) const {
        const std::string& found = (*this)[key].text();
        std::string expected;
        for (const char* const* one = known.begin(); one != known.end(); ++one) {
            if (found == *one) return size_t(one - known.begin());
            expected += (expected.empty() ? "" : " or ") + std::string(*one);
        }
        throw Error("the header has " + key + ": " + found + ", expected " + expected);
    }
    // The same of an entry that older files leave out.
    COLD size_t word(const std::string& key, std::initializer_list<const char*> known, const char* otherwise) const {
        require(Kind::table, "a table");
        if (table_.count(key)) return word(key, known);
        return size_t(std::find_if(known.begin(), known.end(), [&](const char* one) { return std::string(one) == otherwise; }) -
                      known.begin());
    }
    COLD const Json& operator[](const std::string& key) const {
        require(Kind::table, "a table");
        const auto found = table_.find(key);
        if (found == table_.end()) throw Error("the header has no entry '" + key + "'");
        return found->second;
    }

    COLD static std::string shown(double number) {
        std::ostringstream out;
        out.imbue(std::locale::classic());
        out << number;
        return out.str();
    }

  private:
    friend class JsonReader;
    Kind kind_ = Kind::nothing;
    double number_ = 0;
    std::string text_;
    std::vector<Json> list_;
    std::map<std::string, Json> table_;

    COLD void require(Kind kind, const char* name) const {
        if (kind_ != kind) throw Error(std::string("the header is not that of a native model: expected ") + name);
    }
};

class JsonReader {
  public:
    JsonReader(const char* first, const char* last) : at_(first), last_(last) {}

    COLD Json whole() {
        Json found = value(0);
        space();
        if (at_ != last_) fail();
        return found;
    }

  private:
    static constexpr int DEEPEST = 16;
    const char *at_, *last_;

    [[noreturn]] COLD static void fail() { throw Error("the header is damaged: it is not JSON"); }

    void space() {
        while (at_ != last_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) ++at_;
    }
    char next() {
        if (at_ == last_) fail();
        return *at_++;
    }
    bool accept(char one) {
        space();
        if (at_ == last_ || *at_ != one) return false;
        ++at_;
        return true;
    }
    void word(const char* rest) {
        for (; *rest; ++rest)
            if (next() != *rest) fail();
    }

    COLD Json value(int depth) {
        if (depth > DEEPEST) fail();
        space();
        if (at_ == last_) fail();
        Json found;
        switch (*at_) {
            case '{': table(found, depth); break;
            case '[': list(found, depth); break;
            case '"': found.kind_ = Json::Kind::text, found.text_ = text(); break;
            case 't': word("true"), found.kind_ = Json::Kind::boolean, found.number_ = 1; break;
            case 'f': word("false"), found.kind_ = Json::Kind::boolean; break;
            case 'n': word("null"); break;
            default: found.kind_ = Json::Kind::number, found.number_ = number();
        }
        return found;
    }

    COLD void table(Json& found, int depth) {
        found.kind_ = Json::Kind::table;
        ++at_;
        if (accept('}')) return;
        do {
            space();
            if (at_ == last_ || *at_ != '"') fail();
            std::string key = text();
            if (!accept(':') || !found.table_.emplace(std::move(key), value(depth + 1)).second) fail();
        } while (accept(','));
        if (!accept('}')) fail();
    }

    COLD void list(Json& found, int depth) {
        found.kind_ = Json::Kind::list;
        ++at_;
        if (accept(']')) return;
        do found.list_.push_back(value(depth + 1));
        while (accept(','));
        if (!accept(']')) fail();
    }

    // Escapes for characters beyond ASCII stay as they are written: nothing here depends on them.
    COLD std::string text() {
        std::string found;
        next();
        for (char one = next(); one != '"'; one = next()) {
            if (static_cast<unsigned char>(one) < 0x20) fail();
            found += one;
            if (one != '\\') continue;
            const char escaped = next();
            if (escaped == '"' || escaped == '\\' || escaped == '/') found.back() = escaped;
            else found += escaped;
        }
        return found;
    }

    COLD double number() {
        const char* first = at_;
        while (at_ != last_ && (std::isdigit(static_cast<unsigned char>(*at_)) || (*at_ && std::string("+-.eE").find(*at_) != std::string::npos)))
            ++at_;
        std::istringstream in(std::string(first, at_));
        in.imbue(std::locale::classic());  // whatever decimal mark the program has chosen
        double found = 0;
        in >> found;
        if (in.fail() || in.peek() != std::istringstream::traits_type::eof()) fail();
        return found;
    }
};

inline Json Json::parse(const char* first, const char* last) { return JsonReader(first, last).whole(); }

}  // namespace mlanet
