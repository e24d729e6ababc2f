/* Handles and structs that are not what they should be give a status, and null outputs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "effbert.h"

#define REQUIRE(condition)                                                  \
  do {                                                                      \
    if (!(condition)) {                                                     \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                              \
    }                                                                       \
  } while (0)

static void require_refused(effbert_session *session, effbert_result *result, effbert_cancel *cancel) {
  effbert_session_info info;
  effbert_knob_info knob;
  effbert_output_info output;
  effbert_ids ids;
  effbert_text text;
  effbert_token_list tokens;
  effbert_call call;
  effbert_result *made = (effbert_result *)&ids;
  const char *name = "kept";
  const int64_t *numbers;
  const float *values;
  const uint8_t *flags;
  int64_t rows;
  memset(&ids, 0, sizeof ids);
  memset(&text, 0, sizeof text);
  memset(&tokens, 0, sizeof tokens);
  info.size = sizeof info;
  knob.size = sizeof knob;
  output.size = sizeof output;
  ids.size = sizeof ids;
  tokens.size = sizeof tokens;
  REQUIRE(effbert_call_init(&call, sizeof call) == EFFBERT_OK);
  REQUIRE(effbert_info(session, &info) == EFFBERT_BAD_HANDLE);
  REQUIRE(effbert_label(session, 0, &name) == EFFBERT_BAD_HANDLE && name == NULL);
  REQUIRE(effbert_knob(session, 0, &knob) == EFFBERT_BAD_HANDLE);
  REQUIRE(effbert_output(session, 0, &output) == EFFBERT_BAD_HANDLE);
  REQUIRE(effbert_run_ids(session, &ids, &call, &made) == EFFBERT_BAD_HANDLE && made == NULL);
  REQUIRE(effbert_run_texts(session, &text, 1, &call, &made) == EFFBERT_BAD_HANDLE && made == NULL);
  REQUIRE(effbert_tokens(session, &text, &tokens) == EFFBERT_BAD_HANDLE);
  REQUIRE(effbert_close(session) == EFFBERT_BAD_HANDLE);
  REQUIRE(effbert_result_rows(result, &rows) == EFFBERT_BAD_HANDLE);
  REQUIRE(effbert_result_output(result, "logits", &values, NULL, NULL) == EFFBERT_BAD_HANDLE);
  REQUIRE(effbert_result_exits(result, &numbers) == EFFBERT_BAD_HANDLE && numbers == NULL);
  REQUIRE(effbert_result_layers(result, &numbers, NULL) == EFFBERT_BAD_HANDLE);
  REQUIRE(effbert_result_signals(result, &values) == EFFBERT_BAD_HANDLE && values == NULL);
  REQUIRE(effbert_result_flags(result, &flags) == EFFBERT_BAD_HANDLE && flags == NULL);
  REQUIRE(effbert_result_label(result, 0, &name, NULL) == EFFBERT_BAD_HANDLE);
  REQUIRE(effbert_result_free(result) == EFFBERT_BAD_HANDLE);
  REQUIRE(effbert_cancel_now(cancel) == EFFBERT_BAD_HANDLE);
  REQUIRE(effbert_cancel_free(cancel) == EFFBERT_BAD_HANDLE);
  REQUIRE(strlen(effbert_last_error()) > 0);
}

int main(void) {
  int foreign = 7;
  effbert_cancel *cancel = NULL;
  effbert_session *session = (effbert_session *)&foreign;
  effbert_options options;
  REQUIRE(effbert_abi() == EFFBERT_ABI);
  require_refused(NULL, NULL, NULL);
  require_refused((effbert_session *)&foreign, (effbert_result *)&foreign, (effbert_cancel *)&foreign);

  REQUIRE(effbert_cancel_new(&cancel) == EFFBERT_OK && cancel != NULL);
  REQUIRE(strlen(effbert_last_error()) == 0);
  require_refused((effbert_session *)cancel, (effbert_result *)cancel, NULL);
  REQUIRE(effbert_cancel_free(cancel) == EFFBERT_OK);
  require_refused(NULL, NULL, cancel); /* stale */

  REQUIRE(effbert_options_init(&options, sizeof options) == EFFBERT_OK);
  REQUIRE(options.max_batch_tokens == 16384);
  REQUIRE(effbert_options_init(NULL, sizeof options) == EFFBERT_INPUT);
  REQUIRE(effbert_options_init(&options, 3) == EFFBERT_INPUT);
  options.size = 0;
  REQUIRE(effbert_open("nowhere", &options, &session) == EFFBERT_INPUT && session == NULL);
  REQUIRE(effbert_open("nowhere", NULL, &session) == EFFBERT_BUNDLE && session == NULL);
  REQUIRE(effbert_open("nowhere", NULL, NULL) == EFFBERT_INPUT);
  REQUIRE(effbert_open(NULL, NULL, &session) == EFFBERT_INPUT);
  REQUIRE(effbert_cancel_new(NULL) == EFFBERT_INPUT);
  return 0;
}
