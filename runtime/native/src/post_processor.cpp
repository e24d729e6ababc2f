#include "post_processor.hpp"

#include <algorithm>
#include <limits>

namespace effbert::detail {
namespace {

using Kind = Slot::Kind;

std::int32_t id_of(const Part &part, const Json &json) {
  if (!json.is(Json::Kind::integer) || !json.fits || json.integer < 0 ||
      json.integer > std::numeric_limits<std::int32_t>::max())
    part.refuse("has a token without an id");
  return static_cast<std::int32_t>(json.integer);
}

// ["[SEP]", 102]
std::int32_t named_id(Part &part, const char *name) {
  const Json &json = part[name];
  if (json.items.size() != 2) part.refuse(std::string("has no token and id in '") + name + "'");
  return id_of(part, json.items[1]);
}

void read_slot(Part item, Part &special, std::vector<Slot> &slots) {
  const char *name = item.has("Sequence") ? "Sequence" : "SpecialToken";
  Part inner = item.part(name);
  const std::string &id = inner.text("id");
  const std::int32_t type = inner.id("type_id");
  if (item.has("Sequence")) {
    if (id != "A" && id != "B") inner.refuse("has a sequence that is neither A nor B");
    slots.push_back({id == "A" ? Kind::first : Kind::second, 0, type});
  } else {
    Part token = special.part(id.c_str());
    const Json &ids = token["ids"];
    if (!ids.is(Json::Kind::array)) token.refuse("has no list of ids");
    for (const Json &each : ids.items) slots.push_back({Kind::special, id_of(token, each), type});
  }
  inner.finish();
  item.finish();
}

std::vector<Slot> read_template(Part &part, const char *name, std::size_t texts) {
  Part special = part.part("special_tokens");
  std::vector<Slot> slots;
  for (Part &item : part.parts(name)) read_slot(item, special, slots);
  std::size_t found[2] = {0, 0};
  for (const Slot &slot : slots)
    if (slot.kind != Kind::special) ++found[slot.kind == Kind::first ? 0 : 1];
  if (found[0] != 1 || found[1] != texts - 1)
    part.refuse(std::string("has other texts than one each in '") + name + "'");
  return slots;
}

void surround(Part &part, PostProcessor &processor, bool doubled, std::int32_t second_type) {
  const Slot cls = {Kind::special, named_id(part, "cls"), 0};
  const Slot sep = {Kind::special, named_id(part, "sep"), 0};
  processor.single = {cls, {Kind::first, 0, 0}, sep};
  processor.pair = processor.single;
  if (doubled) processor.pair.push_back(sep);
  processor.pair.push_back({Kind::second, 0, second_type});
  processor.pair.push_back({Kind::special, sep.id, second_type});
}

void read_trimming(Part &part, PostProcessor &processor) {
  processor.trims = part.flag("trim_offsets");
  processor.prefix_space = part.flag("add_prefix_space");
}

void read(Part &part, PostProcessor &processor) {
  const std::string &type = part.type();
  if (type == "TemplateProcessing") {
    processor.single = read_template(part, "single", 1);
    processor.pair = read_template(part, "pair", 2);
  } else if (type == "BertProcessing") {
    surround(part, processor, false, 1);
  } else if (type == "RobertaProcessing") {
    read_trimming(part, processor);
    surround(part, processor, true, 0);
  } else if (type == "ByteLevel") {
    read_trimming(part, processor);
    part.ignore("use_regex");
  } else if (type == "Sequence") {
    std::vector<Part> parts = part.parts("processors");
    // Trimming first, then one that adds tokens: the two that are known to go together.
    if (parts.size() != 2 || parts[0].type() != "ByteLevel" ||
        parts[1].type() != "TemplateProcessing")
      part.refuse("is a sequence of other processors than ByteLevel and TemplateProcessing");
    for (Part &inner : parts) read(inner, processor);
  } else {
    part.refuse_type();
  }
  part.finish();
}

}  // namespace

std::size_t PostProcessor::count_special(const std::vector<Slot> &slots) {
  return static_cast<std::size_t>(std::count_if(
      slots.begin(), slots.end(), [](const Slot &slot) { return slot.kind == Kind::special; }));
}

PostProcessor make_post_processor(Part part) {
  PostProcessor processor;
  read(part, processor);
  return processor;
}

}  // namespace effbert::detail
