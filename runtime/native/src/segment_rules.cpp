#include <algorithm>
#include <map>
#include <set>

#include "fields.hpp"
#include "rules.hpp"

namespace effbert::detail {
namespace {

using Kind = std::pair<DType, std::vector<Axis>>;

Kind kind_of(const Tensor &tensor) { return {tensor.dtype, tensor.axes}; }

std::string spell(const Kind &kind) {
  static constexpr const char *types[] = {"float32", "int64", "bool"};
  static constexpr const char *names[] = {"batch", "sequence", "tokens"};
  std::string axes;
  for (const Axis &axis : kind.second)
    axes += (axes.empty() ? "" : ", ") + (axis.kind == Axis::Kind::fixed
                                              ? std::to_string(axis.size)
                                              : names[static_cast<int>(axis.kind)]);
  return std::string(types[static_cast<int>(kind.first)]) + " [" + axes + "]";
}

void check_kind(const std::string &path, const Tensor &tensor, const Kind &expected) {
  if (kind_of(tensor) != expected)
    refuse(path, quoted(tensor.name) + " is " + spell(kind_of(tensor)) + ", expected " +
                     spell(expected));
}

// Of two tensors with one name the later counts, but no segment may have two.
std::map<std::string, const Tensor *> by_name(const std::vector<Tensor> &tensors) {
  std::map<std::string, const Tensor *> found;
  for (const Tensor &tensor : tensors) found[tensor.name] = &tensor;
  return found;
}

std::vector<std::pair<std::string, std::size_t>> expected_outputs(Task task) {
  switch (task) {
    case Task::text_classification: return {{"logits", 2}};
    case Task::token_classification: return {{"logits", 3}};
    case Task::question_answering: break;
  }
  return {{"start_logits", 2}, {"end_logits", 2}};
}

class Rules {
 public:
  explicit Rules(const Size &size) : size_(size) {}

  void check() {
    for (std::size_t k = 0; k < size_.segments.size(); ++k) {
      check_names(k);
      check_axes(k);
    }
    check_chain();
    check_outputs();
    for (std::size_t k = 0; k < size_.golden.size(); ++k) check_golden(k);
  }

 private:
  std::string path(const char *list, std::size_t k) const {
    return size_.path + list + "[" + std::to_string(k) + "]";
  }

  const Knob *knob(const std::string &name) const {
    for (const Knob *each : size_.knobs)
      if (each->name == name) return each;
    return nullptr;
  }

  void check_names(std::size_t k) const {
    const Segment &segment = size_.segments[k];
    if (size_.manifest.files.count(segment.file) == 0)
      refuse(path("segments", k) + ".file", quoted(segment.file) + " is not in $.files");
    std::set<std::string> names;
    for (const auto *tensors : {&segment.inputs, &segment.outputs})
      for (const Tensor &tensor : *tensors)
        if (!names.insert(tensor.name).second)
          refuse(path("segments", k), quoted(tensor.name) + " names two of its inputs and outputs");
  }

  void check_axes(std::size_t k) const {
    const Segment &segment = size_.segments[k];
    const auto check = [&](const char *list, const Tensor &tensor) {
      const Axis batch = {Axis::Kind::batch, 0};
      if (tensor.axes.empty() || !(tensor.axes[0] == batch) ||
          std::count(tensor.axes.begin(), tensor.axes.end(), batch) != 1)
        refuse(path("segments", k) + list,
               "the first axis of " + quoted(tensor.name) + ", and no other, must be 'batch'");
    };
    for (const Tensor &tensor : segment.inputs)
      if (knob(tensor.name) == nullptr) check(".inputs", tensor);
    for (const Tensor &tensor : segment.outputs) check(".outputs", tensor);
  }

  // Every input of a segment exists when the segment runs, and has the type it expects.
  void check_chain() const {
    std::map<std::string, Kind> known;
    for (const Input &input : size_.manifest.inputs) known[input.name] = kind_of(input);
    for (const State &state : size_.manifest.states) known[state.name] = kind_of(state);
    int layer = 0;
    for (std::size_t k = 0; k < size_.segments.size(); ++k) {
      const Segment &segment = size_.segments[k];
      if (segment.layer < layer)
        refuse(path("segments", k) + ".layer", std::to_string(segment.layer) + " comes after " +
                                                   std::to_string(layer));
      layer = segment.layer;
      for (const Tensor &tensor : segment.inputs)
        check_input(path("segments", k) + ".inputs", tensor, known);
      carry(k, known);
    }
  }

  void check_input(const std::string &where, const Tensor &tensor,
                   const std::map<std::string, Kind> &known) const {
    const Knob *fed = knob(tensor.name);
    if (fed != nullptr && !fed->choices) {
      Kind expected = {fed->dtype, {}};
      if (fed->count) expected.second.push_back({Axis::Kind::fixed, *fed->count});
      return check_kind(where, tensor, expected);
    }
    const auto found = known.find(tensor.name);
    if (found == known.end())
      refuse(where, quoted(tensor.name) +
                        " is no input, state or knob, and no earlier segment carries it");
    check_kind(where, tensor, found->second);
  }

  void carry(std::size_t k, std::map<std::string, Kind> &known) const {
    const auto outputs = by_name(size_.segments[k].outputs);
    for (const auto &[name, source] : size_.segments[k].carries) {
      const std::string where = path("segments", k) + ".carries." + name;
      const auto output = outputs.find(source);
      if (output == outputs.end())
        refuse(where, quoted(source) + " is no output of the segment");
      if (knob(name) != nullptr) refuse(where, "a knob cannot be carried");
      const auto before = known.find(name);
      if (before != known.end()) check_kind(where, *output->second, before->second);
      known[name] = kind_of(*output->second);
    }
  }

  void check_outputs() const {
    const Manifest &manifest = size_.manifest;
    const auto expected = expected_outputs(manifest.task);
    std::set<std::string> named(manifest.outputs.begin(), manifest.outputs.end()), wanted;
    for (const auto &[name, rank] : expected) wanted.insert(name);
    if (named != wanted) refuse("$.outputs", "these are not the outputs of the task");
    if (manifest.task == Task::text_classification && !manifest.problem)
      refuse("$.problem", "text-classification needs one");
    const std::vector<Axis> rows = {{Axis::Kind::batch, 0}};
    std::map<std::string, Kind> known = {{"exit", {DType::boolean, rows}},
                                         {"signal", {DType::float32, rows}}};
    std::vector<std::string> names = {"exit", "signal"};
    names.insert(names.end(), manifest.outputs.begin(), manifest.outputs.end());
    for (std::size_t k = 0; k < size_.segments.size(); ++k) {
      const auto outputs = by_name(size_.segments[k].outputs);
      for (const std::string &name : names) {
        const auto found = outputs.find(name);
        if (found == outputs.end())
          refuse(path("segments", k) + ".outputs", quoted(name) + " is missing");
        const Kind &kind = known.emplace(name, kind_of(*found->second)).first->second;
        check_kind(path("segments", k) + ".outputs", *found->second, kind);
      }
    }
    for (const auto &[name, rank] : expected) check_answer(name, rank, known.at(name));
  }

  void check_answer(const std::string &name, std::size_t rank, const Kind &kind) const {
    const std::string where = path("segments", 0) + ".outputs";
    const std::size_t labels = size_.manifest.labels.size();
    if (kind.first != DType::float32 || kind.second.size() != rank)
      refuse(where, quoted(name) + " must be float32 with " + std::to_string(rank) + " axes");
    if (rank == 3 && kind.second[1].kind != Axis::Kind::sequence)
      refuse(where, "the second axis of " + quoted(name) + " must be 'sequence'");
    const Axis classes = {Axis::Kind::fixed, static_cast<std::int64_t>(labels)};
    if (name == "logits" && labels > 0 && !(kind.second.back() == classes))
      refuse("$.labels", std::to_string(labels) + " labels do not fit the logits");
  }

  void check_golden(std::size_t k) const {
    const Golden &row = size_.golden[k];
    const Limits &limits = size_.manifest.limits;
    const std::string where = path("golden", k);
    const auto length = static_cast<std::int64_t>(row.input_ids.size());
    if (row.text && row.text->size() != 1 && row.text->size() != 2)
      refuse(where + ".text", "expected one text or a pair");
    if (row.text && !size_.manifest.tokenizer)
      refuse(where + ".text", "the bundle has no tokenizer");
    if (length > limits.max_length)
      refuse(where + ".input_ids", std::to_string(length) + " tokens, the limit is " +
                                       std::to_string(limits.max_length));
    for (const std::int64_t token : row.input_ids)
      if (token < 0 || token >= limits.vocab_size)
        refuse(where + ".input_ids", "an id is outside the vocabulary");
    if (row.token_type_ids && row.token_type_ids->size() != row.input_ids.size())
      refuse(where + ".token_type_ids", "as many are needed as there are tokens");
    if (row.word_map && row.word_map->size() != row.input_ids.size())
      refuse(where + ".word_map", "as many are needed as there are tokens");
    check_golden_outputs(row, where + ".outputs");
  }

  void check_golden_outputs(const Golden &row, const std::string &where) const {
    std::set<std::string> named, wanted(size_.manifest.outputs.begin(),
                                        size_.manifest.outputs.end());
    for (const auto &[name, values] : row.outputs) named.insert(name);
    if (named != wanted) refuse(where, "expected those of $.outputs");
    const auto outputs = by_name(size_.segments[0].outputs);
    for (const auto &[name, values] : row.outputs) {
      std::vector<std::int64_t> shape = {static_cast<std::int64_t>(size_.segments.size())};
      const std::vector<Axis> &axes = outputs.at(name)->axes;
      for (std::size_t axis = 1; axis < axes.size(); ++axis)
        shape.push_back(axes[axis].kind == Axis::Kind::sequence
                            ? static_cast<std::int64_t>(row.input_ids.size())
                            : axes[axis].kind == Axis::Kind::fixed ? axes[axis].size : -1);
      if (!has_shape(values, shape, 0))
        refuse(where + "." + name, "expected numbers with an axis of exits, then those of the output");
    }
  }

  static bool has_shape(const Json &value, const std::vector<std::int64_t> &shape,
                        std::size_t axis) {
    if (axis == shape.size()) return value.is_number();
    if (!value.is(Json::Kind::array) ||
        static_cast<std::int64_t>(value.items.size()) != shape[axis])
      return false;
    return std::all_of(value.items.begin(), value.items.end(),
                       [&](const Json &item) { return has_shape(item, shape, axis + 1); });
  }

  const Size &size_;
};

}  // namespace

void check_segments(const Size &size) { Rules(size).check(); }

}  // namespace effbert::detail
