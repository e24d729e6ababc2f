// effbert for C++17: the C interface of effbert.h as classes. Header-only; errors are exceptions.
#ifndef EFFBERT_HPP
#define EFFBERT_HPP

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "effbert.h"

namespace effbert {

// A call failed; `status` says how, the message says why in a sentence.
class Error : public std::runtime_error {
 public:
  Error(effbert_status status_of_it, const char *message)
      : std::runtime_error(message), status(status_of_it) {}
  const effbert_status status;
};

inline void check(effbert_status status) {
  if (status != EFFBERT_OK) throw Error(status, effbert_last_error());
}

struct Options : effbert_options {
  Options() { check(effbert_options_init(this, sizeof(effbert_options))); }
};

struct Label {
  std::string_view name;  // lives as long as its result
  double score;
};

// Numbers that belong to a result: float32 or int64 of this shape.
template <typename T>
struct Array {
  const T *values;
  std::vector<std::int64_t> shape;
};

// The answers of a call; of one thread. Row i answers row i of the inputs.
class Result {
 public:
  explicit Result(effbert_result *result) : result_(result) {}

  std::int64_t rows() const {
    std::int64_t count = 0;
    check(effbert_result_rows(result_.get(), &count));
    return count;
  }
  Array<float> output(const std::string &name) const {
    const float *values = nullptr;
    const std::int64_t *shape = nullptr;
    std::size_t rank = 0;
    check(effbert_result_output(result_.get(), name.c_str(), &values, &shape, &rank));
    return {values, {shape, shape + rank}};
  }
  const std::int64_t *exits() const { return get<std::int64_t>(effbert_result_exits); }
  const float *signals() const { return get<float>(effbert_result_signals); }
  const std::uint8_t *flags() const { return get<std::uint8_t>(effbert_result_flags); }
  Array<std::int64_t> layers() const {
    const std::int64_t *values = nullptr;
    std::size_t count = 0;
    check(effbert_result_layers(result_.get(), &values, &count));
    const std::int64_t all = rows();
    const auto numbers = static_cast<std::int64_t>(count);
    if (numbers == all) return {values, {all}};
    return {values, {all, all ? numbers / all : 0}};
  }
  Label label(std::int64_t row) const {
    Label found{};
    const char *name = nullptr;
    check(effbert_result_label(result_.get(), row, &name, &found.score));
    found.name = name;
    return found;
  }

 private:
  struct Free {
    void operator()(effbert_result *result) const { effbert_result_free(result); }
  };
  template <typename T>
  const T *get(effbert_status (*function)(effbert_result *, const T **)) const {
    const T *values = nullptr;
    check(function(result_.get(), &values));
    return values;
  }

  std::unique_ptr<effbert_result, Free> result_;
};

// Stops the calls that hold it, from any thread.
class Cancel {
 public:
  Cancel() {
    effbert_cancel *made = nullptr;
    check(effbert_cancel_new(&made));
    cancel_.reset(made);
  }
  void now() { check(effbert_cancel_now(cancel_.get())); }
  effbert_cancel *get() const { return cancel_.get(); }

 private:
  struct Free {
    void operator()(effbert_cancel *cancel) const { effbert_cancel_free(cancel); }
  };
  std::unique_ptr<effbert_cancel, Free> cancel_;
};

// What a call asks for beside its inputs.
class Call {
 public:
  Call &knob(std::string name, std::vector<double> values, bool integers = false) {
    knobs_.push_back({std::move(name), std::move(values), integers});
    return *this;
  }
  Call &knob(std::string name, double value) { return knob(std::move(name), std::vector{value}); }
  Call &deadline_ms(double milliseconds) {
    deadline_ms_ = milliseconds;
    return *this;
  }
  Call &cancel(const Cancel &cancel) {
    cancel_ = cancel.get();
    return *this;
  }
  Call &operating_point(std::string name) {
    operating_point_ = std::move(name);
    return *this;
  }
  Call &every_exit(bool every = true) {
    every_exit_ = every;
    return *this;
  }

  // Calls a function with the C struct, which points into this object.
  template <typename Function>
  void with(Function function) const {
    std::vector<effbert_knob_value> values;
    for (const Knob &knob : knobs_) {
      values.push_back({knob.name.c_str(), knob.values.data(), knob.values.size(), knob.integers});
    }
    effbert_call call;
    check(effbert_call_init(&call, sizeof call));
    call.knobs = values.data();
    call.knob_count = values.size();
    call.deadline_ms = deadline_ms_;
    call.cancel = cancel_;
    call.every_exit = every_exit_;
    call.operating_point = operating_point_.empty() ? nullptr : operating_point_.c_str();
    function(&call);
  }

 private:
  struct Knob {
    std::string name;
    std::vector<double> values;
    bool integers;
  };
  std::vector<Knob> knobs_;
  double deadline_ms_ = -1;
  effbert_cancel *cancel_ = nullptr;
  bool every_exit_ = false;
  std::string operating_point_;
};

struct Text {
  Text(std::string_view text) : first(text) {}  // NOLINT: a text is a text
  Text(const std::string &text) : first(text) {}
  Text(const char *text) : first(text) {}
  Text(std::string_view text, std::string_view second_of_pair)
      : first(text), second(second_of_pair), pair(true) {}

  effbert_text get() const {
    return {first.data() ? first.data() : "", first.size(),
            pair ? (second.data() ? second.data() : "") : nullptr, second.size()};
  }

  std::string_view first, second;
  bool pair = false;
};

// A bundle, opened; any number of threads may use it. Its destructor waits for their calls.
class Session {
 public:
  explicit Session(const std::string &bundle, const Options &options = Options()) {
    effbert_session *opened = nullptr;
    check(effbert_open(bundle.c_str(), &options, &opened));
    session_.reset(opened);
  }

  Result run(const std::vector<Text> &texts, const Call &call = Call()) const {
    std::vector<effbert_text> given;
    for (const Text &text : texts) given.push_back(text.get());
    return answered([&](const effbert_call *options, effbert_result **result) {
      return effbert_run_texts(session_.get(), given.data(), given.size(), options, result);
    }, call);
  }
  Result run(const effbert_ids &ids, const Call &call = Call()) const {
    return answered([&](const effbert_call *options, effbert_result **result) {
      return effbert_run_ids(session_.get(), &ids, options, result);
    }, call);
  }
  effbert_session_info info() const {
    effbert_session_info info{};
    info.size = sizeof info;
    check(effbert_info(session_.get(), &info));
    return info;
  }
  effbert_session *get() const { return session_.get(); }

 private:
  struct Close {
    void operator()(effbert_session *session) const { effbert_close(session); }
  };
  template <typename Function>
  Result answered(Function function, const Call &call) const {
    effbert_result *result = nullptr;
    call.with([&](const effbert_call *options) { check(function(options, &result)); });
    return Result(result);
  }

  std::unique_ptr<effbert_session, Close> session_;
};

}  // namespace effbert
#endif
