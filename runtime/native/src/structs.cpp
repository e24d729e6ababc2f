#include "structs.hpp"

namespace effbert::detail {
namespace {

const char *task_name(Task task) {
  switch (task) {
    case Task::text_classification:
      return "text-classification";
    case Task::token_classification:
      return "token-classification";
    case Task::question_answering:
      return "question-answering";
  }
  return "";
}

const char *problem_name(const std::optional<Problem> &problem) {
  if (problem == Problem::single_label) return "single-label";
  if (problem == Problem::multi_label) return "multi-label";
  return problem == Problem::regression ? "regression" : "";
}

std::int64_t label_count(const Manifest &manifest) {
  if (!manifest.labels.empty()) return static_cast<std::int64_t>(manifest.labels.size());
  const std::vector<Axis> &axes = output_tensor(manifest, manifest.outputs[0]).axes;
  return axes.back().kind == Axis::Kind::fixed ? axes.back().size : 0;
}

template <typename T>
const T &at(const std::vector<T> &items, std::int64_t index, const char *what) {
  if (index >= 0 && static_cast<std::size_t>(index) < items.size()) {
    return items[static_cast<std::size_t>(index)];
  }
  throw InputError(std::string("There is no ") + what + " " + std::to_string(index) +
                   "; this bundle has " + std::to_string(items.size()) + ".");
}

template <typename T>
void copy_numbers(const std::vector<T> &numbers, std::int64_t *target) {
  if (target != nullptr) std::copy(numbers.begin(), numbers.end(), target);
}

}  // namespace

effbert_session_info session_info(const Session &session) {
  const Manifest &manifest = session.manifest();
  const EngineSettings &engine = session.engine().settings();
  effbert_session_info info{};
  info.task = task_name(manifest.task);
  info.problem = problem_name(manifest.problem);
  info.precision = manifest.precision.c_str();
  info.source = manifest.source.name.c_str();
  info.onnxruntime = session.engine().library().version().c_str();
  info.exits = static_cast<std::int64_t>(manifest.segments.size());
  info.labels = label_count(manifest);
  info.outputs = static_cast<std::int64_t>(manifest.outputs.size());
  info.knobs = static_cast<std::int64_t>(manifest.knobs.size());
  info.min_length = manifest.limits.min_length;
  info.max_length = manifest.limits.max_length;
  info.vocab_size = manifest.limits.vocab_size;
  info.has_tokenizer = manifest.tokenizer.has_value();
  info.padding_free = manifest.padding_free;
  info.tokens_exit = tokens_exit(manifest);
  info.threads = engine.threads;
  info.pool = static_cast<std::int32_t>(engine.pool);
  return info;
}

effbert_knob_info knob_info(const Manifest &manifest, std::int64_t index) {
  const Knob &knob = at(manifest.knobs, index, "knob");
  effbert_knob_info info{};
  info.name = knob.name.c_str();
  info.minimum = knob.minimum.value;
  info.maximum = knob.maximum.value;
  info.never = knob.never.value;
  info.values = knob.count      ? *knob.count
                : knob.per_exit ? static_cast<std::int64_t>(manifest.segments.size())
                                : 1;
  info.per_exit = knob.per_exit;
  info.tokens = knob.unit_tokens;
  info.selects_variant = knob.choices.has_value();
  return info;
}

effbert_output_info output_info(const Manifest &manifest, std::int64_t index) {
  const std::string &name = at(manifest.outputs, index, "output");
  effbert_output_info info{};
  info.name = name.c_str();
  for (const Axis &axis : output_tensor(manifest, name).axes) {
    if (info.rank == 4) break;
    info.axes[info.rank++] = axis.kind == Axis::Kind::batch      ? std::int64_t{EFFBERT_AXIS_BATCH}
                             : axis.kind == Axis::Kind::sequence ? std::int64_t{EFFBERT_AXIS_SEQUENCE}
                                                                 : axis.size;
  }
  return info;
}

void write_tokens(const Encoding &encoding, effbert_token_list &tokens) {
  effbert_token_list given{};
  read_struct(&tokens, given);
  const std::size_t size = tokens.size;
  given.count = encoding.ids.size();
  given.truncated = encoding.truncated;
  const bool fits = given.count <= given.capacity;
  if (fits) {
    copy_numbers(encoding.ids, given.ids);
    copy_numbers(encoding.type_ids, given.types);
    copy_numbers(encoding.starts, given.starts);
    copy_numbers(encoding.ends, given.ends);
  }
  write_struct(given, &tokens, size);
  if (fits) return;
  throw InputError("The text has " + std::to_string(given.count) + " tokens, there is room for " +
                   std::to_string(given.capacity) + ".");
}

int gpu_index(const std::string &device) {
  if (device.empty() || device == "cpu") return -1;
  const std::string digits = device.size() > 5 ? device.substr(5) : "0";
  const bool named = device == "cuda" || device.compare(0, 5, "cuda:") == 0;
  if (named && digits.size() <= 3 && digits.find_first_not_of("0123456789") == std::string::npos &&
      device != "cuda:") {
    return std::stoi(digits);
  }
  throw InputError("device: got '" + device + "', expected 'cpu', 'cuda' or 'cuda:N'.");
}

}  // namespace effbert::detail
