// Measures calls on request, for benchmarks/native.py: of a bundle, or of a graph on onnxruntime alone.
//
//     bench_bundle bundle|graph PATH LIBRARY THREADS LENGTH [KNOB VALUE]
//
// Says first how long opening took and how much is resident; then for every number of calls on
// standard input their milliseconds: processor time of the process a call, and median on the clock.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <functional>
#include <iostream>
#include <memory>

#include "graph.hpp"
#include "host_session.hpp"

namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

double processor_milliseconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) * 1e-6;
}

// The ids that benchmarks/native.py feeds to Python too.
std::vector<std::int64_t> row_of_ids(std::int64_t length) {
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < length; ++i) ids.push_back(5 + i * 7919 % 1000);
  return ids;
}

std::function<void()> opened_bundle(char **arguments, int count, const std::vector<std::int64_t> &ids) {
  effbert::Options options;
  options.onnxruntime = arguments[3];
  options.threads = std::atoi(arguments[4]);
  effbert::Call call;
  if (count > 7) call.knob(arguments[6], std::atof(arguments[7]));
  const auto session = std::make_shared<effbert::Session>(arguments[2], options);
  effbert_ids given{};
  given.size = sizeof given;
  given.rows = 1;
  given.length = static_cast<std::int64_t>(ids.size());
  given.input_ids = ids.data();
  return [=] { session->run(given, call); };
}

std::function<void()> opened_graph(char **arguments, const std::vector<std::int64_t> &ids) {
  effbert::detail::Library &library = effbert::detail::Library::load(arguments[3]);
  effbert::detail::EngineSettings settings;
  settings.threads = std::atoi(arguments[4]);
  settings.pool = effbert::detail::Pool::own;
  const auto engine = std::make_shared<effbert::detail::Engine>(library, settings);
  std::ifstream stream(arguments[2], std::ios::binary);
  const effbert::detail::Bytes model((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  const auto graph = std::make_shared<effbert::detail::Graph>(engine->load("graph", model, nullptr));
  const auto length = static_cast<std::int64_t>(ids.size());
  effbert::detail::Value mask(library, effbert::detail::DType::int64, {1, length});
  effbert::detail::Value types(library, effbert::detail::DType::int64, {1, length});
  std::fill_n(mask.writable<std::int64_t>(), length, 1);
  std::fill_n(types.writable<std::int64_t>(), length, 0);
  const effbert::detail::Value tokens(library, engine->memory(), effbert::detail::DType::int64, {1, length}, ids.data());
  return [=] {
    graph->run({"input_ids", "attention_mask", "token_type_ids"}, {tokens, mask, types}, {"logits"},
               engine->quiet());
  };
}

}  // namespace

int main(int count, char **arguments) {
  REQUIRE(count >= 6);
  const std::vector<std::int64_t> ids = row_of_ids(std::atoi(arguments[5]));
  const auto start = Clock::now();
  const bool graph = std::strcmp(arguments[1], "graph") == 0;
  const auto answer = graph ? opened_graph(arguments, ids) : opened_bundle(arguments, count, ids);
  const double opening = milliseconds(Clock::now() - start);
  answer();
  std::cout << opening << " " << resident_bytes() << std::endl;
  for (int calls; std::cin >> calls;) {
    answer();  // wakes threads and caches
    std::vector<double> times;
    const double before = processor_milliseconds();
    for (int i = 0; i < calls; ++i) {
      const auto begin = Clock::now();
      answer();
      times.push_back(milliseconds(Clock::now() - begin));
    }
    const double used = processor_milliseconds() - before;
    std::nth_element(times.begin(), times.begin() + calls / 2, times.end());
    std::cout << used / calls << " " << times[static_cast<std::size_t>(calls / 2)] << std::endl;
  }
}
