// A bundle, opened and ready to answer.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "chain.hpp"
#include "tokenizer.hpp"

namespace effbert::detail {

struct SessionOptions {
  std::string onnxruntime, operating_point;
  std::int64_t max_batch_tokens = 16384;
  EngineSettings engine;
  bool special_tokens_in_text = true;
};

// What a call asks for beside its inputs.
struct CallOptions {
  std::vector<AskedKnob> knobs;
  double deadline_ms = -1;
  std::shared_ptr<Cancel> cancel;
  bool every_exit = false;
  std::optional<std::string> operating_point;  // of this call; none is that of the session
};

struct GivenText {
  std::string_view first;
  std::optional<std::string_view> second;
};

// Any number of threads may use one session.
class Session {
 public:
  // Throws what docs/native.md lists for effbert_open.
  Session(const std::string &folder, const SessionOptions &options);

  std::shared_ptr<Result> run(const GivenInputs &inputs, const CallOptions &call);
  std::shared_ptr<Result> run(const std::vector<GivenText> &texts, const CallOptions &call);
  Encoding tokens(const GivenText &text) const;

  // Waits for the calls that are running, then frees the segments; no other call can begin.
  void close();

  const Manifest &manifest() const { return bundle_->manifest; }
  const Engine &engine() const { return *engine_; }

 private:
  // The calls that are running, and the process that may make them.
  class Running {
   public:
    explicit Running(Session &session);
    ~Running();
    Running(const Running &) = delete;
    Running &operator=(const Running &) = delete;

   private:
    Session &session_;
  };

  // What is found once for a call.
  struct Prepared {
    const KnobValues &knobs;
    const Chain &chain;
    Deadline deadline;
    Stoppable stopping;
    bool every_exit;
  };

  void answer(const Batch &batch, const std::vector<std::int64_t> &rows, const Prepared &call,
              std::int64_t batch_rows, Result &result) const;
  void answer_part(const Batch &batch, const std::vector<std::int64_t> &rows, const Prepared &call,
                   std::int64_t batch_rows, Result &result) const;
  std::shared_ptr<Result> room(std::int64_t rows, std::int64_t length, bool every_exit) const;
  const Chain &chosen(const KnobValues &knobs);
  std::vector<double> key(const KnobValues &knobs) const;
  std::vector<double> key(const Named<Number> &values) const;
  Batch padded(const std::vector<Encoding> &encodings, const std::vector<std::size_t> &rows) const;
  void open_tokenizer(bool special_tokens_in_text);

  std::shared_ptr<const Bundle> bundle_;
  Knobs knobs_;
  InputCheck check_;
  SplitRules split_;
  std::optional<Tokenizer> tokenizer_;
  std::string no_texts_;  // why texts cannot be answered
  std::unique_ptr<Engine> engine_;
  std::map<std::vector<double>, std::unique_ptr<Chain>> chains_;  // by the knobs that select one
  std::mutex loading_;
  const Chain *only_ = nullptr;  // where no knob selects a variant: calls need not look for theirs
  long process_;

  std::mutex mutex_;
  std::condition_variable idle_;
  int running_ = 0;
  bool closed_ = false;
};

}  // namespace effbert::detail
