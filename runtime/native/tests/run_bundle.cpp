// Runs a bundle on an onnxruntime: rows alone, together and in another order, from several threads,
// and a plain session of the host before and after ours; or many sessions, one after the other.
//
//     run_bundle BUNDLE LIBRARY [host-first|host-later|cycles [CYCLES]]
#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <thread>

#include "host_session.hpp"
#include "testing.hpp"

namespace {

struct Batch {
  std::vector<std::int64_t> ids, mask, words;
  effbert_ids given;
};

// Random rows of a bundle; a seed gives the same rows again.
Batch random_batch(const effbert_session_info &info, std::int64_t rows, std::int64_t length, unsigned seed) {
  std::mt19937 random(seed);
  Batch batch;
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t used = row ? info.min_length + random() % (length - info.min_length + 1) : length;
    for (std::int64_t i = 0; i < length; ++i) {
      batch.ids.push_back(i < used ? random() % info.vocab_size : 0);
      batch.mask.push_back(i < used);
      batch.words.push_back(i < used ? i : -1);
    }
  }
  batch.given = {sizeof batch.given, rows, length, batch.ids.data(), batch.mask.data(), nullptr,
                 batch.words.data()};
  return batch;
}

std::vector<float> row_of(const effbert::Array<float> &output, std::int64_t row) {
  std::int64_t size = 1;
  for (std::size_t i = 1; i < output.shape.size(); ++i) size *= output.shape[i];
  return {output.values + row * size, output.values + (row + 1) * size};
}

std::string first_output(const effbert::Session &session) {
  effbert_output_info info{};
  info.size = sizeof info;
  effbert::check(effbert_output(session.get(), 0, &info));
  return info.name;
}

// A row alone has the bytes that it has in a batch; its signal may differ in the last bit, because
// onnxruntime rounds logarithms of few numbers otherwise than those of many.
void require_same_rows(const effbert::Session &session, unsigned seed) {
  const effbert_session_info info = session.info();
  const std::int64_t rows = 6, length = std::min<std::int64_t>(info.max_length, 20);
  const std::string name = first_output(session);
  const Batch batch = random_batch(info, rows, length, seed);
  const effbert::Result together = session.run(batch.given);
  for (std::int64_t row = 0; row < rows; ++row) {
    effbert_ids alone = batch.given;
    alone.rows = 1;
    alone.input_ids += row * length;
    alone.attention_mask += row * length;
    alone.word_map += row * length;
    const effbert::Result single = session.run(alone);
    REQUIRE(single.exits()[0] == together.exits()[row]);
    const float signal = single.signals()[0];
    REQUIRE(std::abs(signal - together.signals()[row]) <= 1e-6f * (1 + std::abs(signal)));
    REQUIRE(row_of(single.output(name), 0) == row_of(together.output(name), row));
  }
}

// A session of the host's own; none where the weights of a segment are in another file.
std::unique_ptr<HostSession> open_as_host(const std::string &library, const std::string &bundle) {
  if (std::ifstream(bundle + "/weights.bin")) return nullptr;
  return std::make_unique<HostSession>(library, bundle + "/segment-00.onnx");
}

}  // namespace

int main(int count, char **arguments) {
  REQUIRE(count >= 3);
  const std::string bundle = arguments[1], library = arguments[2];
  const bool host_first = count > 3 && std::strcmp(arguments[3], "host-first") == 0;
  const int cycles = count > 4 ? std::atoi(arguments[4]) : 0;
  effbert::Options options;
  options.onnxruntime = library.c_str();
  options.threads = 2;
  std::unique_ptr<HostSession> host;
  if (host_first) host = open_as_host(library, bundle);
  {
    const effbert::Session session(bundle, options);
    std::printf("onnxruntime %s, pool %d\n", session.info().onnxruntime, session.info().pool);
    REQUIRE(session.info().pool == (host_first ? EFFBERT_POOL_OWN : EFFBERT_POOL_SHARED));
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < (cycles ? 0 : 3); ++i) threads.emplace_back(require_same_rows, std::cref(session), i);
    for (std::thread &thread : threads) thread.join();
    const auto beside = open_as_host(library, bundle);
  }
  host.reset();
  const auto after = open_as_host(library, bundle);
  for (int i = 0; i < cycles; ++i) {
    if (i == cycles / 10) std::printf("first %ld\n", resident_bytes());
    const effbert::Session session(bundle, options);
    const Batch batch = random_batch(session.info(), 3, 8, 0);
    REQUIRE(session.run(batch.given).rows() == 3);
  }
  if (cycles) std::printf("last %ld\n", resident_bytes());
}
