#include "external_data.hpp"

#include <optional>
#include <string_view>

#include "manifest.hpp"

namespace effbert::detail {
namespace {

using View = std::string_view;

struct Malformed {};

// One field of a message of protocol buffers: a number, or bytes.
struct Field {
  std::uint64_t number = 0;
  std::uint64_t value = 0;
  View bytes;
};

class Fields {
 public:
  explicit Fields(View message) : left_(message) {}

  std::optional<Field> next() {
    if (left_.empty()) return std::nullopt;
    const std::uint64_t key = varint();
    Field field;
    field.number = key >> 3;
    switch (key & 7) {
      case 0:
        field.value = varint();
        break;
      case 1:
        take(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        take(4);
        break;
      default:
        throw Malformed();
    }
    return field;
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw Malformed();
  }

  View take(std::uint64_t count) {
    if (count > left_.size()) throw Malformed();
    const View taken = left_.substr(0, count);
    left_.remove_prefix(count);
    return taken;
  }

  View left_;
};

// Numbers of fields in onnx.proto3.
enum { entry_key = 1, entry_value = 2 };
enum { tensor_entry = 13, tensor_location = 14 };
enum { attribute_tensor = 5, attribute_graph = 6, attribute_tensors = 10, attribute_graphs = 11 };
enum { attribute_sparse = 22, attribute_sparses = 23 };
enum { node_attribute = 5 };
enum { graph_node = 1, graph_tensor = 5, graph_sparse = 15 };
enum { model_graph = 7, model_function = 25 };
enum { function_node = 7 };
constexpr int most_depth = 16;

bool is_foreign_tensor(View tensor) {
  bool external = false, ours = false, other = false;
  Fields fields(tensor);
  while (const auto field = fields.next()) {
    if (field->number == tensor_location) external = field->value != 0;
    if (field->number != tensor_entry) continue;
    View key, value;
    Fields entry(field->bytes);
    while (const auto part = entry.next()) {
      if (part->number == entry_key) key = part->bytes;
      if (part->number == entry_value) value = part->bytes;
    }
    if (key != "location") continue;
    if (value == weights_name) {
      ours = true;
    } else {
      other = true;
    }
  }
  return other || (external && !ours);
}

bool refers_elsewhere(View graph, int depth);

bool attribute_refers_elsewhere(View attribute, int depth) {
  Fields fields(attribute);
  while (const auto field = fields.next()) {
    const std::uint64_t n = field->number;
    if ((n == attribute_tensor || n == attribute_tensors) && is_foreign_tensor(field->bytes)) return true;
    if (n == attribute_sparse || n == attribute_sparses) return true;  // no exporter writes them
    if ((n == attribute_graph || n == attribute_graphs) && refers_elsewhere(field->bytes, depth + 1)) {
      return true;
    }
  }
  return false;
}

bool node_refers_elsewhere(View node, int depth) {
  Fields fields(node);
  while (const auto field = fields.next()) {
    if (field->number == node_attribute && attribute_refers_elsewhere(field->bytes, depth)) return true;
  }
  return false;
}

bool refers_elsewhere(View graph, int depth) {
  if (depth > most_depth) throw Malformed();
  Fields fields(graph);
  while (const auto field = fields.next()) {
    if (field->number == graph_tensor && is_foreign_tensor(field->bytes)) return true;
    if (field->number == graph_sparse) return true;
    if (field->number == graph_node && node_refers_elsewhere(field->bytes, depth)) return true;
  }
  return false;
}

bool model_refers_elsewhere(View model) {
  Fields fields(model);
  while (const auto field = fields.next()) {
    if (field->number == model_graph && refers_elsewhere(field->bytes, 0)) return true;
    if (field->number == model_function) return true;  // no exporter writes them
  }
  return false;
}

}  // namespace

void require_no_other_files(const std::string &name, const Bytes &model) {
  const View whole(reinterpret_cast<const char *>(model.data()), model.size());
  if (whole.find("location") == View::npos) return;  // the key of every reference to a file
  bool elsewhere = true;
  try {
    elsewhere = model_refers_elsewhere(whole);
  } catch (const Malformed &) {
    throw BundleError(name + " is no ONNX file; get the bundle again from where it was made.");
  }
  if (elsewhere) {
    throw BundleError(name + " refers to files that no exporter writes; get the bundle again from " +
                      "where it was made.");
  }
}

}  // namespace effbert::detail
