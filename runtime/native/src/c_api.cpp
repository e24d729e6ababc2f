// The C interface: handles in, statuses out; no exception leaves.
#include <cmath>
#include <cstring>
#include <new>

#include "effbert.h"
#include "handles.hpp"
#include "predictions.hpp"
#include "session.hpp"
#include "structs.hpp"
#include "threads.hpp"

namespace {

using effbert::detail::Cancel;
using effbert::detail::InputError;
using effbert::detail::Result;
using effbert::detail::Session;

// Never destroyed: a host may still call while its process ends.
auto &sessions = *new effbert::detail::Handles<effbert_session, Session>(1, "session");
auto &results = *new effbert::detail::Handles<effbert_result, Result>(2, "result");
auto &cancels = *new effbert::detail::Handles<effbert_cancel, Cancel>(3, "cancel");

std::string &last_error() {
  thread_local std::string text;
  return text;
}

effbert_status failed(effbert_status status, const char *text) noexcept {
  try {
    last_error() = text;
  } catch (...) {
    last_error().clear();
  }
  return status;
}

// Runs a function, and turns what it throws into a status and a message.
template <typename Function>
effbert_status guarded(Function function) noexcept {
  try {
    last_error().clear();
    function();
    return EFFBERT_OK;
  } catch (const effbert::detail::BundleError &error) {
    return failed(EFFBERT_BUNDLE, error.what());
  } catch (const InputError &error) {
    return failed(EFFBERT_INPUT, error.what());
  } catch (const effbert::detail::NumericalError &error) {
    return failed(EFFBERT_NUMERICAL, error.what());
  } catch (const effbert::detail::CancelledError &error) {
    return failed(EFFBERT_CANCELLED, error.what());
  } catch (const effbert::detail::ResourceError &error) {
    return failed(EFFBERT_RESOURCE, error.what());
  } catch (const effbert::detail::EngineError &error) {
    return failed(EFFBERT_ENGINE, error.what());
  } catch (const effbert::detail::MissingLibraryError &error) {
    return failed(EFFBERT_MISSING_LIBRARY, error.what());
  } catch (const effbert::detail::BadHandleError &error) {
    return failed(EFFBERT_BAD_HANDLE, error.what());
  } catch (const std::bad_alloc &) {
    return failed(EFFBERT_RESOURCE, "Memory ran out; send fewer rows in one call.");
  } catch (const std::exception &error) {
    return failed(EFFBERT_INTERNAL, error.what());
  } catch (...) {
    return failed(EFFBERT_INTERNAL, "A fault of effbert that it does not know.");
  }
}

template <typename T>
T &required(T *pointer, const char *name) {
  if (pointer == nullptr) throw InputError(std::string(name) + " is null.");
  return *pointer;
}

std::string text_or_empty(const char *text) { return text ? text : ""; }

effbert::detail::SessionOptions session_options(const effbert_options &given) {
  effbert::detail::SessionOptions options;
  options.onnxruntime = text_or_empty(given.onnxruntime);
  options.operating_point = text_or_empty(given.operating_point);
  options.max_batch_tokens = given.max_batch_tokens;
  options.special_tokens_in_text = given.special_tokens_in_text != 0;
  if (given.threads < 0 || given.threads > 4096) {
    throw InputError("threads: got " + std::to_string(given.threads) + ", expected 0 to 4096.");
  }
  options.engine.threads = given.threads ? given.threads : effbert::detail::usual_threads();
  if (given.pool < EFFBERT_POOL_SHARED || given.pool > EFFBERT_POOL_NONE) {
    throw InputError("pool: got " + std::to_string(given.pool) + ", expected an effbert_pool.");
  }
  options.engine.pool = static_cast<effbert::detail::Pool>(given.pool);
  options.engine.gpu = effbert::detail::gpu_index(text_or_empty(given.device));
  return options;
}

effbert::detail::CallOptions call_options(const effbert_call *given) {
  effbert_call call;
  effbert::detail::read_struct(given, call, &effbert_call_init);
  effbert::detail::CallOptions options;
  options.deadline_ms = call.deadline_ms;
  options.every_exit = call.every_exit != 0;
  if (call.operating_point != nullptr) options.operating_point = call.operating_point;
  if (call.cancel != nullptr) options.cancel = cancels.get(call.cancel);
  for (std::size_t i = 0; i < call.knob_count; ++i) {
    const effbert_knob_value &value = (&required(call.knobs, "knobs"))[i];
    const double *values = &required(value.values, "values");
    options.knobs.push_back({&required(value.name, "name"), {values, values + value.count},
                             value.integers != 0});
    if (value.count == 0) throw InputError("Knob '" + options.knobs.back().name + "': got no value.");
  }
  return options;
}

std::string_view text_view(const char *text, std::size_t bytes) {
  if (text == nullptr && bytes != 0) throw InputError("A text is null.");
  return bytes == EFFBERT_ENDS_WITH_NUL ? std::string_view(text) : std::string_view(text, bytes);
}

effbert::detail::GivenText given_text(const effbert_text &text) {
  effbert::detail::GivenText given{text_view(&required(text.text, "text"), text.bytes), std::nullopt};
  if (text.second != nullptr) given.second = text_view(text.second, text.second_bytes);
  return given;
}

}  // namespace

const char *effbert_version(void) { return EFFBERT_VERSION; }

int effbert_abi(void) { return EFFBERT_ABI; }

const char *effbert_last_error(void) { return last_error().c_str(); }

effbert_status effbert_options_init(effbert_options *options, size_t size) {
  return guarded([&] {
    effbert_options defaults{};
    defaults.max_batch_tokens = 16384;
    defaults.special_tokens_in_text = 1;
    effbert::detail::write_struct(defaults, &required(options, "options"), size);
  });
}

effbert_status effbert_call_init(effbert_call *call, size_t size) {
  return guarded([&] {
    effbert_call defaults{};
    defaults.deadline_ms = -1;
    effbert::detail::write_struct(defaults, &required(call, "call"), size);
  });
}

effbert_status effbert_open(const char *bundle, const effbert_options *options,
                            effbert_session **session) {
  if (session != nullptr) *session = nullptr;
  return guarded([&] {
    required(session, "session");
    effbert_options given;
    effbert::detail::read_struct(options, given, &effbert_options_init);
    *session = sessions.add(
        std::make_shared<Session>(&required(bundle, "bundle"), session_options(given)));
  });
}

effbert_status effbert_close(effbert_session *session) {
  return guarded([&] { sessions.remove(session)->close(); });
}

effbert_status effbert_info(effbert_session *session, effbert_session_info *info) {
  return guarded([&] {
    const auto opened = sessions.get(session);
    effbert::detail::write_struct(effbert::detail::session_info(*opened), info, required(info, "info").size);
  });
}

effbert_status effbert_label(effbert_session *session, int64_t index, const char **label) {
  if (label != nullptr) *label = nullptr;
  return guarded([&] {
    const auto opened = sessions.get(session);
    required(label, "label") = effbert::detail::label_name(opened->manifest(), index).c_str();
  });
}

effbert_status effbert_knob(effbert_session *session, int64_t index, effbert_knob_info *info) {
  return guarded([&] {
    const auto opened = sessions.get(session);
    effbert::detail::write_struct(effbert::detail::knob_info(opened->manifest(), index), info,
                          required(info, "info").size);
  });
}

effbert_status effbert_output(effbert_session *session, int64_t index, effbert_output_info *info) {
  return guarded([&] {
    const auto opened = sessions.get(session);
    effbert::detail::write_struct(effbert::detail::output_info(opened->manifest(), index), info,
                          required(info, "info").size);
  });
}

effbert_status effbert_run_ids(effbert_session *session, const effbert_ids *ids,
                               const effbert_call *call, effbert_result **result) {
  if (result != nullptr) *result = nullptr;
  return guarded([&] {
    const auto opened = sessions.get(session);
    required(result, "result");
    effbert_ids given{};
    effbert::detail::read_struct(&required(ids, "ids"), given);
    *result = results.add(opened->run(effbert::detail::GivenInputs{given.rows, given.length, given.input_ids,
                                                           given.attention_mask,
                                                           given.token_type_ids, given.word_map},
                                      call_options(call)));
  });
}

effbert_status effbert_run_texts(effbert_session *session, const effbert_text *texts, size_t count,
                                 const effbert_call *call, effbert_result **result) {
  if (result != nullptr) *result = nullptr;
  return guarded([&] {
    const auto opened = sessions.get(session);
    required(result, "result");
    std::vector<effbert::detail::GivenText> given;
    for (std::size_t i = 0; i < count; ++i) {
      given.push_back(given_text((&required(texts, "texts"))[i]));
    }
    *result = results.add(opened->run(given, call_options(call)));
  });
}

effbert_status effbert_tokens(effbert_session *session, const effbert_text *text,
                              effbert_token_list *tokens) {
  return guarded([&] {
    const auto opened = sessions.get(session);
    const effbert::detail::Encoding encoding = opened->tokens(given_text(required(text, "text")));
    effbert::detail::write_tokens(encoding, required(tokens, "tokens"));
  });
}

effbert_status effbert_result_rows(effbert_result *result, int64_t *rows) {
  return guarded([&] { required(rows, "rows") = results.get(result)->rows; });
}

effbert_status effbert_result_output(effbert_result *result, const char *name, const float **values,
                                     const int64_t **shape, size_t *rank) {
  if (values != nullptr) *values = nullptr;
  if (shape != nullptr) *shape = nullptr;
  return guarded([&] {
    const auto found = results.get(result);
    const std::string wanted = &required(name, "name");
    for (const effbert::detail::Output &output : found->outputs) {
      if (output.name != wanted) continue;
      required(values, "values") = output.values.data();
      if (shape != nullptr) *shape = output.shape.data();
      if (rank != nullptr) *rank = output.shape.size();
      return;
    }
    throw InputError("This bundle has no output '" + wanted + "'.");
  });
}

effbert_status effbert_result_exits(effbert_result *result, const int64_t **exits) {
  if (exits != nullptr) *exits = nullptr;
  return guarded([&] { required(exits, "exits") = results.get(result)->exits.data(); });
}

effbert_status effbert_result_layers(effbert_result *result, const int64_t **layers, size_t *count) {
  if (layers != nullptr) *layers = nullptr;
  return guarded([&] {
    const auto found = results.get(result);
    required(layers, "layers") = found->layers.data();
    if (count != nullptr) *count = found->layers.size();
  });
}

effbert_status effbert_result_signals(effbert_result *result, const float **signals) {
  if (signals != nullptr) *signals = nullptr;
  return guarded([&] { required(signals, "signals") = results.get(result)->signals.data(); });
}

effbert_status effbert_result_flags(effbert_result *result, const uint8_t **flags) {
  if (flags != nullptr) *flags = nullptr;
  return guarded([&] { required(flags, "flags") = results.get(result)->flags.data(); });
}

effbert_status effbert_result_label(effbert_result *result, int64_t row, const char **label,
                                    double *score) {
  if (label != nullptr) *label = nullptr;
  return guarded([&] {
    const effbert::detail::Label found = effbert::detail::best_label(*results.get(result), row);
    required(label, "label") = found.name;
    if (score != nullptr) *score = found.score;
  });
}

effbert_status effbert_result_free(effbert_result *result) {
  return guarded([&] { results.remove(result); });
}

effbert_status effbert_cancel_new(effbert_cancel **cancel) {
  if (cancel != nullptr) *cancel = nullptr;
  return guarded([&] { required(cancel, "cancel") = cancels.add(std::make_shared<Cancel>()); });
}

effbert_status effbert_cancel_now(effbert_cancel *cancel) {
  return guarded([&] { cancels.get(cancel)->cancel(); });
}

effbert_status effbert_cancel_free(effbert_cancel *cancel) {
  return guarded([&] { cancels.remove(cancel); });
}
