/* Label texts in C89: classify BUNDLE ONNXRUNTIME_LIBRARY TEXT... */
#include <effbert.h>
#include <stdio.h>
#include <stdlib.h>

static void check(effbert_status status) {
  if (status == EFFBERT_OK) return;
  fprintf(stderr, "%s\n", effbert_last_error());
  exit(status == EFFBERT_ENGINE || status == EFFBERT_INTERNAL ? 1 : 2);
}

int main(int count, char **arguments) {
  effbert_options options;
  effbert_session *session;
  effbert_result *result;
  int i;
  if (count < 4) {
    fprintf(stderr, "usage: %s BUNDLE ONNXRUNTIME_LIBRARY TEXT...\n", arguments[0]);
    return 2;
  }
  check(effbert_options_init(&options, sizeof options));
  options.onnxruntime = arguments[2];
  check(effbert_open(arguments[1], &options, &session));
  for (i = 3; i < count; ++i) {
    const char *label;
    const int64_t *layers;
    double score;
    effbert_text text = {0};
    text.text = arguments[i];
    text.bytes = EFFBERT_ENDS_WITH_NUL;
    check(effbert_run_texts(session, &text, 1, NULL, &result));
    check(effbert_result_label(result, 0, &label, &score));
    check(effbert_result_layers(result, &layers, NULL));
    printf("%s\t%.4f\tlayer %ld\n", label, score, (long)layers[0]);
    check(effbert_result_free(result));
  }
  check(effbert_close(session));
  return 0;
}
