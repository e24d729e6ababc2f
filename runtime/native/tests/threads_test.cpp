// Many threads on sessions of the fake onnxruntime: calls, cancels, deadlines, opening and closing.
#include <functional>
#include <memory>
#include <thread>

#include "fake_onnxruntime.hpp"
#include "testing.hpp"

namespace {

const std::vector<int> mixed = {0, 2, 1, 0, 1, 2, 2};
constexpr int rounds = 60;

void call(const effbert::Session &session) {
  const Rows rows(mixed);
  for (int i = 0; i < rounds; ++i) require_answers(session.run(rows.shape), rows, mixed);
}

void call_and_cancel(const effbert::Session &session) {
  const Rows rows(mixed);
  for (int i = 0; i < rounds; ++i) {
    effbert::Cancel cancel;
    std::thread other([&] { cancel.now(); });
    try {
      require_answers(session.run(rows.shape, effbert::Call().cancel(cancel).deadline_ms(1000)), rows, mixed);
    } catch (const effbert::Error &error) {
      REQUIRE(error.status == EFFBERT_CANCELLED);
    }
    other.join();
  }
}

void open_and_close(const std::string &bundle) {
  for (int i = 0; i < rounds; ++i) {
    auto session = std::make_unique<effbert::Session>(bundle, fake_options());
    std::thread other([handle = session->get()] {
      const Rows rows(mixed);
      effbert_result *result = nullptr;
      const effbert_status status = effbert_run_ids(handle, &rows.shape, nullptr, &result);
      REQUIRE(status == EFFBERT_OK || status == EFFBERT_BAD_HANDLE);
      REQUIRE((result != nullptr) == (status == EFFBERT_OK));
      if (result != nullptr) effbert_result_free(result);
    });
    session.reset();
    other.join();
  }
}

}  // namespace

int main() {
  const std::string bundle = write_fake_bundle("threads");
  fake_waits(100);
  {
    const effbert::Session session(bundle, fake_options());
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back(call, std::cref(session));
    for (int i = 0; i < 2; ++i) threads.emplace_back(call_and_cancel, std::cref(session));
    threads.emplace_back(open_and_close, bundle);
    for (std::thread &thread : threads) thread.join();
  }
  REQUIRE(fake_objects() == 0);
}
