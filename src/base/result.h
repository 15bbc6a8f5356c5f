// Result<T>: a value or an Error. Our code does not throw; libraries that do are wrapped where they are called.
//
// The member names are std::expected's, so that it can take over once all our compilers have it. Unlike std::expected
// an ignored Result is a compiler warning. TRY unwraps inside a function that itself returns a Result:
//   UniqueFd fd = TRY(sys::Open(path, flags));                      // returns the error as it is
//   UniqueFd fd = TRY(sys::Open(path, flags), "container " + id);   // with context, evaluated only on error
// TRY is a GNU statement expression: do not use it in a coroutine, a constructor or a destructor, nor in the midst of an
// expression that has built temporaries before it (an initialiser list of JSON, say): GCC skips their destructors when
// TRY returns, and their memory leaks.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/error.h"

namespace crisp {

namespace internal {
[[noreturn]] inline void DieOfBadAccess(const char* what) {
  std::fprintf(stderr, "crisp: %s\n", what);
  std::abort();
}
}  // namespace internal

template <class T = void>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  template <class U = T>
    requires(std::is_constructible_v<T, U &&> && !std::is_same_v<std::remove_cvref_t<U>, Error> &&
             !std::is_same_v<std::remove_cvref_t<U>, Result>)
  Result(U&& value) : state_(std::in_place_index<0>, std::forward<U>(value)) {}  // implicit: `return value;`
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}      // implicit: `return Errno(…);`

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  T& value() & { return Checked(); }
  const T& value() const& { return const_cast<Result*>(this)->Checked(); }
  T&& value() && { return std::move(Checked()); }
  T& operator*() & { return Checked(); }
  const T& operator*() const& { return const_cast<Result*>(this)->Checked(); }
  T&& operator*() && { return std::move(Checked()); }
  T* operator->() { return &Checked(); }
  const T* operator->() const { return &const_cast<Result*>(this)->Checked(); }
  template <class U>
  T value_or(U&& fallback) && {
    return has_value() ? std::move(Checked()) : static_cast<T>(std::forward<U>(fallback));
  }

  Error& error() & { return CheckedError(); }
  const Error& error() const& { return const_cast<Result*>(this)->CheckedError(); }
  Error&& error() && { return std::move(CheckedError()); }

 private:
  T& Checked() {
    if (!has_value()) internal::DieOfBadAccess(std::get<1>(state_).message().c_str());
    return *std::get_if<0>(&state_);
  }
  Error& CheckedError() {
    if (has_value()) internal::DieOfBadAccess("error() of a Result that has a value");
    return *std::get_if<1>(&state_);
  }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}

  bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }
  void operator*() const { value(); }
  void value() const {
    if (error_) internal::DieOfBadAccess(error_->message().c_str());
  }
  Error& error() & { return CheckedError(); }
  const Error& error() const& { return const_cast<Result*>(this)->CheckedError(); }
  Error&& error() && { return std::move(CheckedError()); }

 private:
  Error& CheckedError() {
    if (!error_) internal::DieOfBadAccess("error() of a Result that has a value");
    return *error_;
  }
  std::optional<Error> error_;
};

namespace internal {
inline Error WithContext(Error&& error) { return std::move(error); }
template <class C>
Error WithContext(Error&& error, C&& context) {
  return std::move(error).Context(std::forward<C>(context));
}
template <class T>
T Unwrap(Result<T>&& result) {
  return *std::move(result);
}
inline void Unwrap(Result<void>&&) {}
}  // namespace internal

}  // namespace crisp

#define TRY(expression, ...)                                                                    \
  ({                                                                                            \
    auto crisp_try_result = (expression);                                                       \
    if (!crisp_try_result)                                                                      \
      return ::crisp::internal::WithContext(std::move(crisp_try_result).error() __VA_OPT__(, ) __VA_ARGS__); \
    ::crisp::internal::Unwrap(std::move(crisp_try_result));                                     \
  })
