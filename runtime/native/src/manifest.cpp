#include "manifest.hpp"

#include "fields.hpp"
#include "rules.hpp"

namespace effbert::detail {
namespace {

constexpr std::int64_t version[] = {1, 1};
constexpr std::int64_t most_count = std::int64_t{1} << 53, most_tokens = 2'000'000;

int small(const Field &field, std::int64_t least, std::int64_t most) {
  return static_cast<int>(integer_of(field, least, most));
}

std::int64_t count_of(const Field &field) { return integer_of(field, 0, most_count); }

DType dtype_of(const Field &field) {
  return static_cast<DType>(choice_of(field, {"float32", "int64", "bool"}));
}

Axis axis_of(const Field &field) {
  if (field.json.is(Json::Kind::string))
    return {static_cast<Axis::Kind>(choice_of(field, {"batch", "sequence", "tokens"})), 0};
  return {Axis::Kind::fixed, integer_of(field, 1, 1 << 20)};
}

void read_tensor(Record &record, Tensor &tensor) {
  tensor.name = name_of(record["name"]);
  tensor.dtype = dtype_of(record["dtype"]);
  tensor.axes = list_of(record["axes"], axis_of, 0, 8);
}

Tensor tensor_of(const Field &field) {
  Record record(field);
  Tensor tensor;
  read_tensor(record, tensor);
  record.finish();
  return tensor;
}

Input input_of(const Field &field) {
  Record record(field);
  Input input;
  read_tensor(record, input);
  if (const auto missing = record.optional("missing"); missing && !is_null(*missing))
    input.missing = small(*missing, 0, 1);
  record.finish();
  return input;
}

State state_of(const Field &field) {
  Record record(field);
  State state;
  read_tensor(record, state);
  state.initial = number_of(record["initial"]);
  record.finish();
  return state;
}

FileRecord file_of(const Field &field) {
  Record record(field);
  FileRecord file;
  file.size = integer_of(record["size"], 0, std::int64_t{1} << 40);
  file.sha256 = hash_of(record["sha256"]);
  record.finish();
  return file;
}

Segment segment_of(const Field &field) {
  Record record(field);
  Segment segment;
  segment.file = file_name_of(record["file"]);
  segment.layer = small(record["layer"], 1, 512);
  segment.inputs = list_of(record["inputs"], tensor_of, 1, 64);
  segment.outputs = list_of(record["outputs"], tensor_of, 1, 64);
  segment.carries = table_of(record["carries"], name_of, name_of);
  segment.parameters = count_of(record["parameters"]);
  const auto flops = list_of(record["flops"], count_of, 3, 3);
  std::copy(flops.begin(), flops.end(), segment.flops.begin());
  record.finish();
  return segment;
}

Knob knob_of(const Field &field) {
  Record record(field);
  Knob knob;
  knob.name = name_of(record["name"]);
  knob.dtype = static_cast<DType>(choice_of(record["dtype"], {"float32", "int64"}));
  knob.minimum = number_of(record["minimum"]);
  knob.maximum = number_of(record["maximum"]);
  knob.standard = knob_value_of(record["default"]);
  knob.never = number_of(record["never"]);
  knob.per_exit = boolean_of(record["per_exit"]);
  knob.raising_earlier = choice_of(record["raising"], {"earlier", "later"}) == 0;
  if (const auto unit = record.optional("unit"); unit && !is_null(*unit)) {
    choice_of(*unit, {"tokens"});
    knob.unit_tokens = true;
  }
  if (const auto count = record.optional("count"); count && !is_null(*count))
    knob.count = small(*count, 1, 512);
  if (const auto choices = record.optional("choices"); choices && !is_null(*choices))
    knob.choices = list_of(*choices, number_of, 1, 64);
  record.finish();
  return knob;
}

double share_of(const Field &field, bool open) {
  const double share = float_of(field);
  if (open ? !(share > 0 && share < 1) : !(share >= 0 && share <= 1))
    refuse(field.path, open ? "expected a number between 0 and 1" : "expected a number from 0 to 1");
  return share;
}

Guarantee guarantee_of(const Field &field) {
  Record record(field);
  const Guarantee guarantee = {share_of(record["risk"], true), share_of(record["confidence"], true)};
  record.finish();
  return guarantee;
}

std::string layer_name_of(const Field &field) {
  const std::string name = text_of(field);
  const bool digits = name.find_first_not_of("0123456789") == std::string::npos;
  if (name.empty() || name.size() > 3 || name[0] == '0' || !digits)
    refuse(field.path, "expected layers from 1 to 999, got " + quoted(name));
  return name;
}

// Where examples left is nothing that a host needs; only its form is checked.
void check_exits(const Field &field) {
  Record record(field);
  table_of(record["layers"], layer_name_of,
           [](const Field &count) { return integer_of(count, 0, std::int64_t{1} << 53); });
  if (const auto signal = record.optional("signal"); signal && !is_null(*signal)) {
    const auto values = list_of(*signal, float_of, 2, 2);
    if (!(values[1] >= 0)) refuse(signal->path, "expected a deviation of 0 or more");
  }
  record.finish();
}

OperatingPoint point_of(const Field &field) {
  Record record(field);
  OperatingPoint point;
  point.name = text_of(record["name"]);
  point.knobs = table_of(record["knobs"], name_of, knob_value_of);
  point.data = text_of(record["data"]);
  if (const auto quality = record.optional("quality"))
    point.quality = table_of(*quality, text_of, number_of);
  if (const auto cost = record.optional("cost")) point.cost = table_of(*cost, text_of, number_of);
  if (const auto guarantee = record.optional("guarantee"); guarantee && !is_null(*guarantee))
    point.guarantee = guarantee_of(*guarantee);
  if (const auto exits = record.optional("exits"); exits && !is_null(*exits)) check_exits(*exits);
  record.finish();
  return point;
}

TokenizerRecord tokenizer_of(const Field &field) {
  Record record(field);
  TokenizerRecord tokenizer;
  tokenizer.file = file_name_of(record["file"]);
  tokenizer.vocab_size = integer_of(record["vocab_size"], 1, most_tokens);
  tokenizer.max_length = small(record["max_length"], 2, 8192);
  tokenizer.special_ids = table_of(record["special_ids"], text_of, [](const Field &id) {
    return integer_of(id, 0, most_tokens - 1);
  });
  if (const auto side = record.optional("truncation_side"))
    tokenizer.truncate_left = choice_of(*side, {"right", "left"}) == 1;
  if (const auto special = record.optional("special_tokens_in_text"))
    tokenizer.special_tokens_in_text = boolean_of(*special);
  if (const auto types = record.optional("token_types")) tokenizer.token_types = boolean_of(*types);
  record.finish();
  return tokenizer;
}

Limits limits_of(const Field &field) {
  Record record(field);
  Limits limits;
  limits.max_length = small(record["max_length"], 2, 8192);
  limits.vocab_size = integer_of(record["vocab_size"], 1, most_tokens);
  if (const auto types = record.optional("type_vocab_size"))
    limits.type_vocab_size = small(*types, 0, 1024);
  if (const auto pad = record.optional("pad_id"))
    limits.pad_id = integer_of(*pad, 0, most_tokens - 1);
  if (const auto least = record.optional("min_length")) limits.min_length = small(*least, 2, 8192);
  record.finish();
  return limits;
}

Json list_as_it_is(const Field &field) {
  check_list(field, 0, any_length);
  return field.json;
}

Golden golden_of(const Field &field) {
  Record record(field);
  Golden golden;
  if (const auto text = record.nullable("text")) golden.text = list_of(*text, text_of);
  golden.input_ids = list_of(record["input_ids"], any_integer_of, 2, 8192);
  if (const auto types = record.nullable("token_type_ids"))
    golden.token_type_ids = list_of(*types, any_integer_of);
  golden.outputs = table_of(record["outputs"], name_of, list_as_it_is);
  if (const auto words = record.optional("word_map"); words && !is_null(*words))
    golden.word_map = list_of(*words, any_integer_of);
  record.finish();
  return golden;
}

Variant variant_of(const Field &field) {
  Record record(field);
  Variant variant;
  variant.knobs = table_of(record["knobs"], name_of, number_of);
  variant.segments = list_of(record["segments"], segment_of, 1, 64);
  if (const auto golden = record.optional("golden"))
    variant.golden = list_of(*golden, golden_of, 0, 16);
  record.finish();
  return variant;
}

Parity parity_of(const Field &field) {
  Record record(field);
  Parity parity;
  if (const auto atol = record.nullable("atol")) parity.atol = float_of(*atol);
  parity.rows = count_of(record["rows"]);
  parity.max_abs_diff = list_of(record["max_abs_diff"], number_of);
  parity.decisions = count_of(record["decisions"]);
  parity.decisions_near_threshold = count_of(record["decisions_near_threshold"]);
  if (const auto same = record.optional("same_answers"); same && !is_null(*same))
    parity.same_answers = share_of(*same, false);
  if (const auto same = record.optional("same_decisions"); same && !is_null(*same))
    parity.same_decisions = share_of(*same, false);
  if (const auto texts = record.optional("texts")) parity.texts = count_of(*texts);
  record.finish();
  return parity;
}

Source source_of(const Field &field) {
  Record record(field);
  const Source source = {text_of(record["name"]), text_of(record["sha256"]),
                         text_of(record["format"]), text_of(record["architecture"]),
                         text_of(record["paper"])};
  record.finish();
  return source;
}

Policy policy_of(const Field &field) {
  Record record(field);
  const Policy policy = {text_of(record["name"]), text_of(record["rule"]),
                         text_of(record["paper"])};
  record.finish();
  return policy;
}

std::array<std::int64_t, 2> version_of(const Field &field) {
  const auto pair = list_of(field, any_integer_of, 2, 2);
  return {pair[0], pair[1]};
}

// Before the other fields: a later major version may have others altogether.
void read_version(Record &record, Manifest &manifest) {
  choice_of(record["format"], {"effbert-bundle"});
  manifest.version = version_of(record["version"]);
  manifest.min_reader = version_of(record["min_reader"]);
  const std::array<std::int64_t, 2> ours = {version[0], version[1]};
  if (manifest.version[0] == ours[0] && manifest.min_reader <= ours) return;
  const auto spelled = [](const std::array<std::int64_t, 2> &pair) {
    return std::to_string(pair[0]) + "." + std::to_string(pair[1]);
  };
  throw VersionError("The bundle has format version " + spelled(manifest.version) +
                     " and needs a reader of " + spelled(manifest.min_reader) +
                     " or newer; this effbert reads " + spelled(ours) + ": " +
                     (manifest.version < ours ? "export it again." : "upgrade effbert."));
}

Manifest manifest_of(const Json &json) {
  Record record(Field{json, "$"});
  Manifest manifest;
  read_version(record, manifest);
  manifest.producer = table_of(record["producer"], text_of, text_of);
  manifest.source = source_of(record["source"]);
  manifest.task = static_cast<Task>(choice_of(
      record["task"], {"text-classification", "token-classification", "question-answering"}));
  if (const auto problem = record.nullable("problem"))
    manifest.problem = static_cast<Problem>(
        choice_of(*problem, {"single-label", "multi-label", "regression"}));
  manifest.labels = list_of(record["labels"], text_of, 0, 65'536);
  manifest.limits = limits_of(record["limits"]);
  manifest.padding_free = boolean_of(record["padding_free"]);
  if (const auto tokenizer = record.nullable("tokenizer"))
    manifest.tokenizer = tokenizer_of(*tokenizer);
  manifest.inputs = list_of(record["inputs"], input_of, 1, 16);
  manifest.outputs = list_of(record["outputs"], name_of, 1, 16);
  manifest.states = list_of(record["states"], state_of, 0, 32);
  manifest.segments = list_of(record["segments"], segment_of, 1, 64);
  manifest.policy = policy_of(record["policy"]);
  manifest.knobs = list_of(record["knobs"], knob_of, 0, 32);
  manifest.operating_points = list_of(record["operating_points"], point_of, 0, 256);
  manifest.golden = list_of(record["golden"], golden_of, 0, 16);
  if (const auto parity = record.nullable("parity")) manifest.parity = parity_of(*parity);
  for (auto &[name, file] : table_of(record["files"], file_name_of, file_of, 128))
    manifest.files.emplace(name, file);
  if (const auto variants = record.optional("variants"))
    manifest.variants = list_of(*variants, variant_of, 0, 64);
  if (const auto precision = record.optional("precision")) {
    choice_of(*precision, {"fp32", "fp16", "bf16", "int8", "int8-weight", "int4-weight"});
    manifest.precision = precision->json.text;
  }
  if (const auto activation = record.optional("activation"); activation && !is_null(*activation))
    manifest.activation =
        static_cast<Activation>(choice_of(*activation, {"softmax", "sigmoid", "identity"}));
  record.finish();
  return manifest;
}

}  // namespace

Manifest read_manifest(std::string_view data) {
  if (data.size() > most_manifest_bytes)
    throw ManifestError(std::string(manifest_name) + " has " + std::to_string(data.size()) +
                        " bytes, more than the " + std::to_string(most_manifest_bytes) +
                        " allowed.");
  Json json;
  try {
    json = read_json(data);
  } catch (const JsonError &error) {
    throw ManifestError(std::string(manifest_name) + " is not valid JSON: " + error.what() + ".");
  }
  Manifest manifest = manifest_of(json);
  check_records(manifest);
  check_variants(manifest);
  return manifest;
}

}  // namespace effbert::detail
