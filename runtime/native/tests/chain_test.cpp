// The chain on the fake onnxruntime: answers, splitting, memory, deadline, cancel, closing.
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "fake_onnxruntime.hpp"
#include "testing.hpp"

namespace {

using effbert::Call;
using effbert::Session;
const std::vector<int> mixed = {0, 2, 1, 0, 1, 2, 2};

effbert_status status_of(const std::function<void()> &function) {
  try {
    function();
    return EFFBERT_OK;
  } catch (const effbert::Error &error) {
    return error.status;
  }
}

void rows_leave_at_their_exits(const std::string &bundle) {
  const Session session(bundle, fake_options());
  const Rows rows(mixed);
  require_answers(session.run(rows.shape), rows, mixed);
  require_answers(session.run(rows.shape, Call().knob("threshold", 0.5)), rows, mixed, 0.5F);
  require_answers(session.run(rows.shape, Call().knob("threshold", {0.5, 0.5, 0.5})), rows, mixed, 0.5F);
  const Rows none({});
  REQUIRE(session.run(none.shape).rows() == 0);
  const effbert::Result every = session.run(rows.shape, Call().every_exit());
  REQUIRE(every.rows() == fake_exits * static_cast<std::int64_t>(mixed.size()));
  REQUIRE(every.exits()[mixed.size()] == 1);
}

void large_batches_are_split(const std::string &bundle) {
  effbert::Options options = fake_options();
  options.max_batch_tokens = 17;
  const Rows rows(mixed);
  fake_takes(2);
  require_answers(Session(bundle, options).run(rows.shape), rows, mixed);
  fake_takes(1 << 30);
}

void rows_are_halved_where_memory_ends(const std::string &bundle) {
  const Session session(bundle, fake_options());
  const Rows rows(mixed);
  fake_takes(1);
  require_answers(session.run(rows.shape), rows, mixed);
  fake_takes(0);
  REQUIRE(status_of([&] { session.run(rows.shape); }) == EFFBERT_RESOURCE);
  fake_takes(1 << 30);
}

void a_deadline_stops_at_the_exit_just_run(const std::string &bundle) {
  const Session session(bundle, fake_options());
  const Rows rows(mixed);
  const effbert::Result result = session.run(rows.shape, Call().deadline_ms(0));
  for (std::size_t row = 0; row < mixed.size(); ++row) {
    REQUIRE(result.exits()[row] == 0);
    REQUIRE(result.flags()[row] == (mixed[row] ? EFFBERT_DEADLINE : 0));
  }
}

void a_segment_that_would_miss_the_deadline_does_not_begin(const std::string &bundle) {
  const Session session(bundle, fake_options());
  const Rows rows({2, 2});
  fake_waits(40'000);
  session.run(rows.shape, Call().deadline_ms(10'000));
  const auto start = std::chrono::steady_clock::now();
  const effbert::Result result = session.run(rows.shape, Call().deadline_ms(60));
  const auto took = std::chrono::steady_clock::now() - start;
  fake_waits(0);
  REQUIRE(result.exits()[0] == 0);
  REQUIRE(result.flags()[0] == EFFBERT_DEADLINE);
  REQUIRE(took < std::chrono::milliseconds(80));
}

void a_cancel_stops_a_running_segment(const std::string &bundle) {
  const Session session(bundle, fake_options());
  const Rows rows(mixed);
  effbert::Cancel cancel;
  fake_waits(20'000'000);
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    cancel.now();
  });
  REQUIRE(status_of([&] { session.run(rows.shape, Call().cancel(cancel)); }) == EFFBERT_CANCELLED);
  other.join();
  fake_waits(0);
  REQUIRE(status_of([&] { session.run(rows.shape, Call().cancel(cancel)); }) == EFFBERT_CANCELLED);
  require_answers(session.run(rows.shape), rows, mixed);
}

void closing_waits_for_calls(const std::string &bundle) {
  const Rows rows(mixed);
  auto session = std::make_unique<Session>(bundle, fake_options());
  effbert_session *handle = session->get();
  std::atomic<bool> answered{false};
  fake_waits(50'000);
  std::thread call([&] {
    require_answers(session->run(rows.shape), rows, mixed);
    answered = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  REQUIRE(effbert_close(handle) == EFFBERT_OK);
  REQUIRE(answered);
  call.join();
  fake_waits(0);
  REQUIRE(status_of([&] { session->run(rows.shape); }) == EFFBERT_BAD_HANDLE);
}

void results_outlive_their_session(const std::string &bundle) {
  const Rows rows(mixed);
  auto session = std::make_unique<Session>(bundle, fake_options());
  const effbert::Result result = session->run(rows.shape);
  session.reset();
  require_answers(result, rows, mixed);
  REQUIRE(result.label(0).name == "no");
}

void a_host_may_have_the_environment(const std::string &bundle) {
  fake_host_was_first(true);
  const Rows rows(mixed);
  const Session session(bundle, fake_options());
  REQUIRE(session.info().pool == EFFBERT_POOL_OWN);
  require_answers(session.run(rows.shape), rows, mixed);
  fake_host_was_first(false);
}

void a_damaged_file_is_refused(const std::string &bundle) {
  std::ofstream(bundle + "/segment-01.onnx") << "fake 2";
  REQUIRE(status_of([&] { Session(bundle, fake_options()); }) == EFFBERT_BUNDLE);
  write_fake_bundle("chain");
}

void nothing_stays_after_a_thousand_sessions(const std::string &bundle) {
  const int before = fake_objects();
  const Rows rows(mixed);
  for (int i = 0; i < 1000; ++i) {
    // As a program that links the static library may: its classes are not those inside.
    const auto session = std::make_shared<Session>(bundle, fake_options());
    require_answers(session->run(rows.shape), rows, mixed);
  }
  REQUIRE(fake_objects() == before);
  REQUIRE(before == 0);
}

}  // namespace

int main() {
  const std::string bundle = write_fake_bundle("chain");
  rows_leave_at_their_exits(bundle);
  large_batches_are_split(bundle);
  rows_are_halved_where_memory_ends(bundle);
  a_deadline_stops_at_the_exit_just_run(bundle);
  a_segment_that_would_miss_the_deadline_does_not_begin(bundle);
  a_cancel_stops_a_running_segment(bundle);
  closing_waits_for_calls(bundle);
  results_outlive_their_session(bundle);
  a_host_may_have_the_environment(bundle);
  a_damaged_file_is_refused(bundle);
  nothing_stays_after_a_thousand_sessions(bundle);
}
