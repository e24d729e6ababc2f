// A small TCP service: a client sends lines of UTF-8, each is answered with its label, score and
// layer. Every line has a deadline. SIGHUP opens the bundle again, without a pause: calls that run
// finish on the old one. SIGTERM ends it.
//
//     service BUNDLE ONNXRUNTIME_LIBRARY PORT [DEADLINE_MS] [WORKERS]
#include <arpa/inet.h>
#include <csignal>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <effbert.hpp>

namespace {

constexpr std::size_t longest_line = 1 << 16;

// The session in use. Whoever answers holds it, so that a new one can take its place at any time.
class Bundle {
 public:
  Bundle(std::string folder, effbert::Options options)
      : folder_(std::move(folder)), options_(options) {
    reload();
  }
  void reload() {
    auto opened = std::make_shared<const effbert::Session>(folder_, options_);
    const std::lock_guard<std::mutex> lock(mutex_);
    session_.swap(opened);
  }  // the old session closes here, or with the last call that runs on it
  std::shared_ptr<const effbert::Session> session() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return session_;
  }

 private:
  const std::string folder_;
  const effbert::Options options_;
  mutable std::mutex mutex_;
  std::shared_ptr<const effbert::Session> session_;
};

// Connections that wait for a worker.
class Queue {
 public:
  void push(int connection) {
    const std::lock_guard<std::mutex> lock(mutex_);
    waiting_.push_back(connection);
    changed_.notify_one();
  }
  void close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  int pop() {  // -1 when closed
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return closed_ || !waiting_.empty(); });
    if (waiting_.empty()) return -1;
    const int connection = waiting_.front();
    waiting_.pop_front();
    return connection;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<int> waiting_;
  bool closed_ = false;
};

std::string answer(const effbert::Session &session, const std::string &text, double deadline_ms) {
  try {
    const effbert::Result result = session.run({text}, effbert::Call().deadline_ms(deadline_ms));
    const effbert::Label label = result.label(0);
    char numbers[64];
    std::snprintf(numbers, sizeof numbers, "\t%.4f\t%lld%s\n", label.score,
                  static_cast<long long>(result.layers().values[0]),
                  result.flags()[0] & EFFBERT_DEADLINE ? "\tdeadline" : "");
    return std::string(label.name) + numbers;
  } catch (const effbert::Error &error) {
    return std::string("error\t") + error.what() + "\n";
  }
}

bool send_all(int connection, const std::string &text) {
  for (std::size_t sent = 0; sent < text.size();) {
    const ssize_t count = send(connection, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (count <= 0) return false;
    sent += static_cast<std::size_t>(count);
  }
  return true;
}

void serve(int connection, const Bundle &bundle, double deadline_ms) {
  const timeval idle{5, 0};  // then a silent client is left, so that the service can end
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof idle);
  std::string waiting;
  char buffer[4096];
  ssize_t count;
  while (waiting.size() < longest_line && (count = read(connection, buffer, sizeof buffer)) > 0) {
    waiting.append(buffer, static_cast<std::size_t>(count));
    for (std::size_t end; (end = waiting.find('\n')) != std::string::npos;) {
      const std::string line = waiting.substr(0, end);
      waiting.erase(0, end + 1);
      if (!send_all(connection, answer(*bundle.session(), line, deadline_ms))) break;
    }
  }
  close(connection);
}

int listen_on(int port) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  if (bind(listener, reinterpret_cast<sockaddr *>(&address), sizeof address) != 0 ||
      listen(listener, 64) != 0) {
    std::perror("service");
    std::exit(1);
  }
  socklen_t size = sizeof address;
  getsockname(listener, reinterpret_cast<sockaddr *>(&address), &size);
  std::printf("listening on port %d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  return listener;
}

}  // namespace

int main(int count, char **arguments) try {
  if (count < 4) {
    std::fprintf(stderr, "usage: %s BUNDLE ONNXRUNTIME_LIBRARY PORT [DEADLINE_MS] [WORKERS]\n", *arguments);
    return 2;
  }
  sigset_t signals;  // blocked in all threads: main waits for them
  sigemptyset(&signals);
  for (const int each : {SIGHUP, SIGTERM, SIGINT}) sigaddset(&signals, each);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  effbert::Options options;
  options.onnxruntime = arguments[2];
  Bundle bundle(arguments[1], options);
  const double deadline_ms = count > 4 ? std::atof(arguments[4]) : -1;
  const int listener = listen_on(std::atoi(arguments[3]));
  Queue queue;
  std::vector<std::thread> workers;
  for (int i = 0; i < (count > 5 ? std::atoi(arguments[5]) : 4); ++i) {
    workers.emplace_back([&] {
      for (int connection; (connection = queue.pop()) >= 0;) serve(connection, bundle, deadline_ms);
    });
  }
  std::thread acceptor([&] {
    for (int connection; (connection = accept(listener, nullptr, nullptr)) >= 0;) queue.push(connection);
  });
  for (int received = 0; sigwait(&signals, &received) == 0 && received == SIGHUP;) {
    try {
      bundle.reload();
      std::puts("reloaded");
    } catch (const effbert::Error &error) {  // the old bundle goes on
      std::printf("not reloaded: %s\n", error.what());
    }
    std::fflush(stdout);
  }
  shutdown(listener, SHUT_RDWR);
  acceptor.join();
  queue.close();
  for (std::thread &worker : workers) worker.join();
  close(listener);
} catch (const effbert::Error &error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.status == EFFBERT_ENGINE ? 1 : 2;
}
