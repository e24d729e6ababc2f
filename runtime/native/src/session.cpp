#include "session.hpp"

#include <unistd.h>

#include <algorithm>
#include <new>

#include "effbert.h"
#include "run_errors.hpp"

namespace effbert::detail {
namespace {

constexpr std::size_t rows_of_text = 32;  // texts are run in batches of at most this many rows

std::shared_ptr<const Bundle> opened(const std::string &folder) {
  return std::make_shared<const Bundle>(open_bundle(folder));
}

EngineSettings with_precision(EngineSettings settings, const std::string &precision) {
  settings.blocks = precision == "int8-weight" || precision == "int4-weight";
  return settings;
}

}  // namespace

Session::Session(const std::string &folder, const SessionOptions &options)
    : bundle_(opened(folder)),
      knobs_(manifest(), options.operating_point),
      check_(manifest()),
      split_{manifest().padding_free, options.max_batch_tokens, manifest().limits.min_length},
      process_(getpid()) {
  if (options.max_batch_tokens < 1) {
    throw InputError("max_batch_tokens: got " + std::to_string(options.max_batch_tokens) +
                     ", expected 1 or more.");
  }
  Result(bundle_, 0, 0);  // refuses answers of which nobody knows how much room they need
  open_tokenizer(options.special_tokens_in_text);
  engine_ = std::make_unique<Engine>(Library::load(options.onnxruntime),
                                     with_precision(options.engine, manifest().precision));
  const Chain &usual = chosen(knobs_.defaults());
  if (manifest().variants.empty()) only_ = &usual;
}

void Session::open_tokenizer(bool special_tokens_in_text) {
  const std::optional<TokenizerRecord> &record = manifest().tokenizer;
  if (!record) {
    no_texts_ =
        "This bundle has no tokenizer, so it answers token ids only; export it again with: "
        "effbert-export CHECKPOINT BUNDLE --tokenizer DIR.";
    return;
  }
  TokenizerSettings settings;
  settings.max_length = static_cast<std::size_t>(
      std::min(record->max_length, manifest().limits.max_length));
  settings.min_length = static_cast<std::size_t>(manifest().limits.min_length);
  settings.truncate_left = record->truncate_left;
  settings.special_tokens_in_text = special_tokens_in_text && record->special_tokens_in_text;
  settings.pairs_only = manifest().task == Task::question_answering;
  settings.texts_only = manifest().task == Task::token_classification;
  const Bytes data = bundle_->read(record->file);
  try {
    tokenizer_.emplace(std::string_view(reinterpret_cast<const char *>(data.data()), data.size()),
                       settings);
  } catch (const TokenizerError &error) {
    no_texts_ = error.what();
  }
}

Session::Running::Running(Session &session) : session_(session) {
  if (session.process_ != getpid()) {
    throw BadHandleError(
        "This session was opened in another process, before the fork, and its threads stayed "
        "there; open the bundle after the fork.");
  }
  const std::lock_guard<std::mutex> lock(session.mutex_);
  if (session.closed_) throw BadHandleError("This session is closed; open the bundle again.");
  ++session.running_;
}

Session::Running::~Running() {
  const std::lock_guard<std::mutex> lock(session_.mutex_);
  if (--session_.running_ == 0) session_.idle_.notify_all();
}

void Session::close() {
  if (process_ != getpid()) {
    // Its threads stayed in the other process: what would wait for them is kept for ever.
    for (auto &entry : chains_) static_cast<void>(entry.second.release());
    static_cast<void>(engine_.release());
    return;
  }
  std::unique_lock<std::mutex> lock(mutex_);
  closed_ = true;
  idle_.wait(lock, [this] { return running_ == 0; });
  chains_.clear();
}

std::shared_ptr<Result> Session::run(const GivenInputs &inputs, const CallOptions &call) {
  const Running running(*this);
  const Deadline deadline(call.deadline_ms);
  const Batch batch = check_(inputs);
  const KnobValues own = knobs_.merged(call.knobs, call.every_exit, call.operating_point);
  const Prepared prepared{own, chosen(own), deadline, {*engine_, call.cancel.get()}, call.every_exit};
  std::shared_ptr<Result> result = room(batch.rows, batch.length, call.every_exit);
  std::vector<std::int64_t> rows;
  for (std::int64_t row = 0; row < batch.rows; ++row) rows.push_back(row);
  answer(batch, rows, prepared, batch.rows, *result);
  return result;
}

std::shared_ptr<Result> Session::run(const std::vector<GivenText> &texts, const CallOptions &call) {
  const Running running(*this);
  const Deadline deadline(call.deadline_ms);
  const KnobValues own = knobs_.merged(call.knobs, call.every_exit, call.operating_point);
  std::vector<Encoding> encodings;
  std::vector<std::size_t> lengths;
  if (!tokenizer_) throw InputError(no_texts_);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const GivenText &text = texts[i];
    encodings.push_back(text.second ? tokenizer_->encode(i, text.first, *text.second)
                                    : tokenizer_->encode(i, text.first));
    lengths.push_back(encodings.back().ids.size());
  }
  const auto longest = std::max_element(lengths.begin(), lengths.end());
  const std::int64_t length = longest == lengths.end() ? manifest().limits.min_length
                                                       : static_cast<std::int64_t>(*longest);
  const Prepared prepared{own, chosen(own), deadline, {*engine_, call.cancel.get()}, call.every_exit};
  const auto count = static_cast<std::int64_t>(texts.size());
  std::shared_ptr<Result> result = room(count, length, call.every_exit);
  for (const std::vector<std::size_t> &group : by_length(lengths, rows_of_text)) {
    const Batch batch = padded(encodings, group);
    try {
      answer(batch, {group.begin(), group.end()}, prepared, count, *result);
    } catch (const NumericalError &error) {
      std::vector<std::int64_t> rows = error.rows;
      std::sort(rows.begin(), rows.end());
      throw NumericalError(rows, error.reason);
    }
  }
  for (std::size_t i = 0; i < result->flags.size(); ++i) {
    if (encodings[i % texts.size()].truncated) result->flags[i] |= EFFBERT_TRUNCATED;
  }
  return result;
}

Encoding Session::tokens(const GivenText &text) const {
  if (!tokenizer_) throw InputError(no_texts_);
  return text.second ? tokenizer_->encode(0, text.first, *text.second)
                     : tokenizer_->encode(0, text.first);
}

// Texts of these indices as checked inputs, filled up with the padding token.
Batch Session::padded(const std::vector<Encoding> &encodings,
                      const std::vector<std::size_t> &rows) const {
  std::size_t length = 0;
  for (const std::size_t row : rows) length = std::max(length, encodings[row].ids.size());
  const std::size_t size = rows.size() * length;
  std::vector<std::int64_t> ids(size, manifest().limits.pad_id), mask(size), types(size);
  std::vector<std::int64_t> words(size, no_word);
  const bool with_types = manifest().tokenizer->token_types;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Encoding &encoding = encodings[rows[i]];
    const auto at = static_cast<std::ptrdiff_t>(i * length);
    std::copy(encoding.ids.begin(), encoding.ids.end(), ids.begin() + at);
    std::fill_n(mask.begin() + at, encoding.ids.size(), 1);
    if (with_types) std::copy(encoding.type_ids.begin(), encoding.type_ids.end(), types.begin() + at);
    const std::vector<std::int64_t> map = encoding.word_map();
    std::copy(map.begin(), map.end(), words.begin() + at);
  }
  return check_({static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(length), ids.data(),
                 mask.data(), types.data(), words.data()});
}

std::shared_ptr<Result> Session::room(std::int64_t rows, std::int64_t length, bool every_exit) const {
  const auto exits = static_cast<std::int64_t>(manifest().segments.size());
  return std::make_shared<Result>(bundle_, every_exit ? rows * exits : rows, length);
}

// Answers a batch whose rows have these indices in the result, in parts.
void Session::answer(const Batch &batch, const std::vector<std::int64_t> &rows, const Prepared &call,
                     std::int64_t batch_rows, Result &result) const {
  for (const Part &part : split_batch(batch, check_.mask(), split_)) {
    if (part.rows.size() == rows.size() && part.length == batch.length) {
      answer_part(batch, rows, call, batch_rows, result);
      continue;
    }
    std::vector<std::int64_t> chosen_rows;
    for (const std::int64_t row : part.rows) chosen_rows.push_back(rows[static_cast<std::size_t>(row)]);
    answer_part(rows_of(batch, part), chosen_rows, call, batch_rows, result);
  }
}

// Runs rows together, or in halves if the memory does not suffice for all of them.
void Session::answer_part(const Batch &batch, const std::vector<std::int64_t> &rows,
                          const Prepared &call, std::int64_t batch_rows, Result &result) const {
  const Asked asked{call.knobs, call.deadline, call.stopping};
  try {
    if (call.every_exit) {
      call.chain.run_all(batch, rows, asked, batch_rows, result);
    } else {
      call.chain.run(batch, rows, asked, result);
    }
    return;
  } catch (const ResourceError &) {
    if (rows.size() <= 1) throw;
  } catch (const std::bad_alloc &) {
    if (rows.size() <= 1) throw;
  }
  const auto middle = static_cast<std::int64_t>(rows.size() / 2);
  for (const auto &[begin, end] : {std::pair<std::int64_t, std::int64_t>{0, middle},
                                   {middle, static_cast<std::int64_t>(rows.size())}}) {
    Part half{{}, batch.length};
    for (std::int64_t row = begin; row < end; ++row) half.rows.push_back(row);
    answer_part(rows_of(batch, half), {rows.begin() + begin, rows.begin() + end}, call, batch_rows,
                result);
  }
}

std::vector<double> Session::key(const KnobValues &values) const {
  std::vector<double> found;
  for (std::size_t i = 0; i < manifest().knobs.size(); ++i) {
    if (manifest().knobs[i].choices) found.push_back(knobs_.chosen(values, i));
  }
  return found;
}

std::vector<double> Session::key(const Named<Number> &values) const {
  std::vector<AskedKnob> asked;
  for (const auto &[name, number] : values) asked.push_back({name, {number.value}, number.integer});
  return key(knobs_.merged(asked, true));
}

// The chain of the variant that the values select; loaded by the first call for it.
const Chain &Session::chosen(const KnobValues &values) {
  if (only_ != nullptr) return *only_;
  const std::lock_guard<std::mutex> lock(loading_);
  std::unique_ptr<Chain> &chain = chains_[key(values)];
  if (chain) return *chain;
  const std::vector<Segment> *segments = nullptr;
  if (key(values) == key(knobs_.merged({}, true))) segments = &manifest().segments;
  for (const Variant &variant : manifest().variants) {
    if (key(variant.knobs) == key(values)) segments = &variant.segments;
  }
  if (segments == nullptr) {
    std::string asked;
    for (std::size_t i = 0; i < manifest().knobs.size(); ++i) {
      const Knob &knob = manifest().knobs[i];
      if (!knob.choices) continue;
      char text[80];
      std::snprintf(text, sizeof text, "=%.12g", knobs_.chosen(values, i));
      asked += (asked.empty() ? "" : ", ") + knob.name + text;
    }
    chains_.erase(key(values));
    throw InputError("There is no variant with " + asked + "; its knobs have other values together.");
  }
  try {
    chain = std::make_unique<Chain>(*bundle_, *segments, check_, *engine_);
  } catch (...) {
    chains_.erase(key(values));
    throw;
  }
  return *chain;
}

}  // namespace effbert::detail
