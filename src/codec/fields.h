// Structures as bytes: each names its fields once, in wire order, by a function `Fields(v, value)` in its own namespace;
// Writer and Reader walk over them. Integers are little endian, a string carries its length (32 bits), a list its count, a
// structure inside another one its length.
//
//   struct Point { int32_t x, y; };
//   template <class V> void Fields(V& v, Point& p) { v(p.x), v(p.y); }
//
// Growth: new fields go to the end. A Reader leaves fields that are missing at their defaults and ignores what follows the
// last one that it knows. Every length is checked against what is there before it is used.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace crisp::codec {

template <class I>
void PutInt(std::string& out, I value) {
  auto bits = static_cast<std::make_unsigned_t<I>>(value);
  for (size_t i = 0; i < sizeof bits; ++i) out += static_cast<char>(bits >> (8 * i) & 0xff);
}

template <class I>
I GetInt(std::string_view bytes) {
  std::make_unsigned_t<I> bits = 0;
  for (size_t i = 0; i < sizeof bits; ++i) {
    bits = static_cast<std::make_unsigned_t<I>>(bits | std::make_unsigned_t<I>{static_cast<unsigned char>(bytes[i])} << (8 * i));
  }
  return static_cast<I>(bits);
}

class FieldWriter {
 public:
  explicit FieldWriter(std::string& out) : out_(out) {}
  void operator()(bool& value) { out_ += value ? '\1' : '\0'; }
  template <std::integral I>
    requires(!std::same_as<I, bool>)
  void operator()(I& value) { PutInt(out_, value); }
  void operator()(std::string& text) {
    PutInt(out_, static_cast<uint32_t>(text.size()));
    out_ += text;
  }
  template <class T>
  void operator()(std::vector<T>& items) {
    PutInt(out_, static_cast<uint32_t>(items.size()));
    for (T& item : items) (*this)(item);
  }
  // A message inside a message carries its length, so that it too can grow.
  template <class Message>
    requires std::is_class_v<Message>
  void operator()(Message& message) {
    size_t at = out_.size();
    out_.append(4, '\0');
    Fields(*this, message);
    std::string length;
    PutInt(length, static_cast<uint32_t>(out_.size() - at - 4));
    out_.replace(at, 4, length);
  }

 private:
  std::string& out_;
};

class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : rest_(bytes) {}
  bool failed() const { return failed_; }

  void operator()(bool& value) {
    uint8_t byte = 0;
    (*this)(byte);
    if (byte > 1) failed_ = true;
    if (byte == 1) value = true;
  }
  template <std::integral I>
    requires(!std::same_as<I, bool>)
  void operator()(I& value) {
    std::string_view bytes = Take(sizeof(I));
    if (!bytes.empty()) value = GetInt<I>(bytes);
  }
  void operator()(std::string& text) {
    if (AtEnd()) return;
    uint32_t size = 0;
    (*this)(size);
    if (failed_ || size > rest_.size()) {
      failed_ = true;
      return;
    }
    text = rest_.substr(0, size);
    rest_.remove_prefix(size);
  }
  template <class T>
  void operator()(std::vector<T>& items) {
    if (AtEnd()) return;
    uint32_t count = 0;
    (*this)(count);
    // Each item takes four bytes at least (its length), which bounds what a lying count can make us allocate.
    if (failed_ || count > rest_.size() / 4) {
      failed_ = true;
      return;
    }
    items.reserve(count);
    for (uint32_t i = 0; i < count && !failed_; ++i) {
      if (AtEnd()) failed_ = true;  // missing items are no missing fields
      (*this)(items.emplace_back());
    }
  }
  template <class Message>
    requires std::is_class_v<Message>
  void operator()(Message& message) {
    std::string bytes;
    (*this)(bytes);
    if (failed_) return;
    FieldReader inner(bytes);
    Fields(inner, message);
    failed_ = inner.failed();
  }

 private:
  // At a field's border an older sender's message may end: the rest keeps its defaults.
  bool AtEnd() const { return failed_ || rest_.empty(); }
  std::string_view Take(size_t size) {
    if (AtEnd()) return {};
    if (rest_.size() < size) {
      failed_ = true;
      return {};
    }
    std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  std::string_view rest_;
  bool failed_ = false;
};

}  // namespace crisp::codec
