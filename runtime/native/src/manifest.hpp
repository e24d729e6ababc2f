// The manifest effbert.json; docs/bundle.md is its specification.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "json.hpp"

namespace effbert::detail {

constexpr std::size_t most_manifest_bytes = std::size_t{1} << 20;
constexpr const char *manifest_name = "effbert.json";
constexpr const char *weights_name = "weights.bin";

// A number of the manifest, which may be spelled "inf", "-inf" or "nan".
struct Number {
  double value = 0;
  bool integer = false;  // written without a point
  std::string text;      // digits of an integer, or the spelling; empty for other floats
};
bool operator==(const Number &a, const Number &b);  // exact, whatever they are written as

template <typename T>
using Named = std::vector<std::pair<std::string, T>>;  // in the order of the document

// The value of a knob: one number, or one an exit or layer.
struct KnobValue {
  bool is_list = false;
  std::vector<Number> values;
};

enum class DType { float32, int64, boolean };

struct Axis {
  enum class Kind { batch, sequence, tokens, fixed };
  Kind kind = Kind::fixed;
  std::int64_t size = 0;  // of fixed ones
};
bool operator==(const Axis &a, const Axis &b);

struct Tensor {
  std::string name;
  DType dtype = DType::float32;
  std::vector<Axis> axes;
};

struct Input : Tensor {
  std::optional<int> missing;  // fills it when the caller leaves it out
};

struct State : Tensor {
  Number initial;
};

struct FileRecord {
  std::int64_t size = 0;  // bytes
  std::string sha256;     // lower-case hex
};

struct Segment {
  std::string file;
  int layer = 0;  // 1-based
  std::vector<Tensor> inputs, outputs;
  Named<std::string> carries;  // input of later segments, and the output that replaces it
  std::int64_t parameters = 0;
  std::array<std::int64_t, 3> flops{};
};

struct Knob {
  std::string name;
  DType dtype = DType::float32;
  Number minimum, maximum, never;
  KnobValue standard;  // "default"
  bool per_exit = false;
  bool raising_earlier = false;  // a larger value makes rows exit earlier
  bool unit_tokens = false;
  std::optional<int> count;
  std::optional<std::vector<Number>> choices;  // it selects a variant, and is no input of a graph
};

struct Guarantee {
  double risk = 0, confidence = 0;
};

struct OperatingPoint {
  std::string name, data;
  Named<KnobValue> knobs;
  Named<Number> quality, cost;
  std::optional<Guarantee> guarantee;
};

struct TokenizerRecord {
  std::string file;
  std::int64_t vocab_size = 0;
  int max_length = 0;  // with special tokens
  Named<std::int64_t> special_ids;
  bool truncate_left = false;
  bool special_tokens_in_text = true;
  bool token_types = true;
};

struct Limits {
  int max_length = 0;
  std::int64_t vocab_size = 0;
  int type_vocab_size = 0;
  std::int64_t pad_id = 0;
  int min_length = 2;
};

struct Golden {
  std::optional<std::vector<std::string>> text;
  std::vector<std::int64_t> input_ids;
  std::optional<std::vector<std::int64_t>> token_type_ids, word_map;
  Named<Json> outputs;  // [exits, ...]
};

struct Variant {
  Named<Number> knobs;
  std::vector<Segment> segments;
  std::vector<Golden> golden;
};

struct Parity {
  std::optional<double> atol, same_answers, same_decisions;
  std::int64_t rows = 0, decisions = 0, decisions_near_threshold = 0, texts = 0;
  std::vector<Number> max_abs_diff;
};

struct Source {
  std::string name, sha256, format, architecture, paper;
};

struct Policy {
  std::string name, rule, paper;
};

enum class Task { text_classification, token_classification, question_answering };
enum class Problem { single_label, multi_label, regression };
enum class Activation { softmax, sigmoid, identity };

struct Manifest {
  std::array<std::int64_t, 2> version{}, min_reader{};
  Named<std::string> producer;
  Source source;
  Task task = Task::text_classification;
  std::optional<Problem> problem;
  std::vector<std::string> labels;
  Limits limits;
  bool padding_free = false;
  std::optional<TokenizerRecord> tokenizer;
  std::vector<Input> inputs;
  std::vector<std::string> outputs;
  std::vector<State> states;
  std::vector<Segment> segments;
  Policy policy;
  std::vector<Knob> knobs;
  std::vector<OperatingPoint> operating_points;
  std::vector<Golden> golden;
  std::optional<Parity> parity;
  std::map<std::string, FileRecord> files;
  std::vector<Variant> variants;
  std::string precision = "fp32";
  std::optional<Activation> activation;
};

// Reads and checks the bytes of effbert.json. Members whose key starts with "x-" are ignored, other
// unknown ones are refused.
//
// Throws VersionError if the bundle needs a newer reader, and ManifestError for bad JSON, a bad
// field, a limit exceeded, or records that contradict each other.
Manifest read_manifest(std::string_view data);

}  // namespace effbert::detail
