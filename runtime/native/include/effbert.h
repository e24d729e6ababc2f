/* effbert: early-exit BERTs from a bundle, without Python. C89; docs/native.md explains it.
 *
 * Functions return a status; effbert_last_error() says in a sentence what was wrong. A session serves
 * any number of threads, a result belongs to one, a cancel may be used from any. A handle that is
 * null, closed, or of something else gives EFFBERT_BAD_HANDLE. Outputs are null on failure. No
 * exception leaves, nothing is printed. */
#ifndef EFFBERT_H
#define EFFBERT_H

#include <stddef.h>
#include <stdint.h>

#if defined(EFFBERT_STATIC)
#define EFFBERT_API
#elif defined(__GNUC__)
#define EFFBERT_API __attribute__((visibility("default")))
#else
#define EFFBERT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define EFFBERT_ABI 1

typedef enum effbert_status {
  EFFBERT_OK = 0,
  EFFBERT_BUNDLE = 1,          /* the bundle is damaged, not trusted, or of another version */
  EFFBERT_INPUT = 2,           /* texts, token ids, knobs or options that do not fit */
  EFFBERT_NUMERICAL = 3,       /* answers that are not finite */
  EFFBERT_CANCELLED = 4,       /* by effbert_cancel_now */
  EFFBERT_RESOURCE = 5,        /* out of memory */
  EFFBERT_ENGINE = 6,          /* onnxruntime refused a segment or failed */
  EFFBERT_MISSING_LIBRARY = 7, /* onnxruntime cannot be loaded, or is too old */
  EFFBERT_BAD_HANDLE = 8,
  EFFBERT_INTERNAL = 9 /* a fault of ours */
} effbert_status;

typedef enum effbert_pool {
  EFFBERT_POOL_SHARED = 0, /* one for all sessions; own ones where the host made the environment */
  EFFBERT_POOL_OWN = 1,    /* one for each segment */
  EFFBERT_POOL_NONE = 2    /* the calling thread alone */
} effbert_pool;

enum { EFFBERT_TRUNCATED = 1, EFFBERT_DEADLINE = 2 }; /* flags of a row */
enum { EFFBERT_AXIS_BATCH = -1, EFFBERT_AXIS_SEQUENCE = -2 };

typedef struct effbert_session effbert_session;
typedef struct effbert_result effbert_result;
typedef struct effbert_cancel effbert_cancel;

/* Every struct begins with its size, so that a newer library serves an older program. */

typedef struct effbert_options { /* filled with defaults by effbert_options_init */
  size_t size;
  const char *onnxruntime;     /* its library; null: libonnxruntime.so.1 as the loader finds it */
  const char *operating_point; /* knob values to start from; null: the defaults */
  const char *device;          /* null or "cpu"; "cuda" or "cuda:N" */
  int64_t max_batch_tokens;    /* larger batches are split; 16384 */
  int32_t threads;             /* that compute; 0: what this process may use */
  int32_t pool;                /* effbert_pool */
  int32_t special_tokens_in_text; /* 1: "[SEP]" in a text is read as the checkpoint does; 0: as text */
} effbert_options;

typedef struct effbert_session_info { /* strings live as long as the session */
  size_t size;
  const char *task, *problem, *precision, *source; /* problem: "" where a task has none */
  const char *onnxruntime;                         /* its version */
  int64_t exits, labels, outputs, knobs;
  int64_t min_length, max_length, vocab_size;
  int32_t has_tokenizer, padding_free, tokens_exit;
  int32_t threads, pool; /* that it really has */
} effbert_session_info;

typedef struct effbert_knob_info {
  size_t size;
  const char *name;
  double minimum, maximum, never; /* `never` is the value at which no row leaves early */
  int64_t values;                 /* 1; or how many a call may give: one an exit, or one a layer */
  int32_t per_exit, tokens, selects_variant;
} effbert_knob_info;

typedef struct effbert_output_info {
  size_t size;
  const char *name;
  int64_t rank;
  int64_t axes[4]; /* an extent, or EFFBERT_AXIS_... */
} effbert_output_info;

typedef struct effbert_knob_value {
  const char *name;
  const double *values;
  size_t count;     /* 1, or as many as the knob takes */
  int32_t integers; /* not 0: values are counts of tokens, where a knob takes counts and shares */
} effbert_knob_value;

typedef struct effbert_call { /* filled with defaults by effbert_call_init */
  size_t size;
  const effbert_knob_value *knobs; /* over those of the operating point */
  size_t knob_count;
  double deadline_ms; /* rows whose next segment would end later, as earlier calls tell, get the
                         answer of the exit just run; below 0: none */
  effbert_cancel *cancel; /* or null */
  int32_t every_exit;     /* not 0: the result has exits * rows rows, those of the first exit first;
                             no row leaves, and knobs stand over their `never` values */
  const char *operating_point; /* of this call, in place of that of the session; or null */
} effbert_call;

typedef struct effbert_ids { /* rows * length numbers each; null is filled in where the bundle allows */
  size_t size;
  int64_t rows, length;
  const int64_t *input_ids, *attention_mask, *token_type_ids, *word_map;
} effbert_ids;

#define EFFBERT_ENDS_WITH_NUL ((size_t)-1)

typedef struct effbert_text { /* UTF-8 */
  const char *text;
  size_t bytes;       /* or EFFBERT_ENDS_WITH_NUL */
  const char *second; /* of a pair, or null */
  size_t second_bytes;
} effbert_text;

typedef struct effbert_token_list { /* arrays of the caller, each may be null */
  size_t size;
  size_t capacity;
  int64_t *ids, *types, *starts, *ends; /* starts and ends are characters of the text */
  size_t count;                         /* of the tokens there are, also where they do not fit */
  int32_t truncated;
} effbert_token_list;

/* The library. Messages are those of the calling thread, until its next call. */
EFFBERT_API const char *effbert_version(void);
EFFBERT_API int effbert_abi(void);
EFFBERT_API const char *effbert_last_error(void);

/* A session. `close` waits for the calls that are running. */
EFFBERT_API effbert_status effbert_options_init(effbert_options *options, size_t size);
EFFBERT_API effbert_status effbert_open(const char *bundle, const effbert_options *options,
                                        effbert_session **session);
EFFBERT_API effbert_status effbert_close(effbert_session *session);
EFFBERT_API effbert_status effbert_info(effbert_session *session, effbert_session_info *info);
EFFBERT_API effbert_status effbert_label(effbert_session *session, int64_t index,
                                         const char **label);
EFFBERT_API effbert_status effbert_knob(effbert_session *session, int64_t index,
                                        effbert_knob_info *info);
EFFBERT_API effbert_status effbert_output(effbert_session *session, int64_t index,
                                          effbert_output_info *info);

/* Calls. `call` may be null. */
EFFBERT_API effbert_status effbert_call_init(effbert_call *call, size_t size);
EFFBERT_API effbert_status effbert_run_ids(effbert_session *session, const effbert_ids *ids,
                                           const effbert_call *call, effbert_result **result);
EFFBERT_API effbert_status effbert_run_texts(effbert_session *session, const effbert_text *texts,
                                             size_t count, const effbert_call *call,
                                             effbert_result **result);
EFFBERT_API effbert_status effbert_tokens(effbert_session *session, const effbert_text *text,
                                          effbert_token_list *tokens);

/* Results: arrays live as long as the result, also after its session was closed. */
EFFBERT_API effbert_status effbert_result_rows(effbert_result *result, int64_t *rows);
EFFBERT_API effbert_status effbert_result_output(effbert_result *result, const char *name,
                                                 const float **values, const int64_t **shape,
                                                 size_t *rank);
EFFBERT_API effbert_status effbert_result_exits(effbert_result *result, const int64_t **exits);
EFFBERT_API effbert_status effbert_result_layers(effbert_result *result, const int64_t **layers,
                                                 size_t *count); /* rows, or rows * length */
EFFBERT_API effbert_status effbert_result_signals(effbert_result *result, const float **signals);
EFFBERT_API effbert_status effbert_result_flags(effbert_result *result, const uint8_t **flags);
EFFBERT_API effbert_status effbert_result_label(effbert_result *result, int64_t row,
                                                const char **label, double *score);
EFFBERT_API effbert_status effbert_result_free(effbert_result *result);

/* Cancelling: once used it stays cancelled. Free it when no call holds it. */
EFFBERT_API effbert_status effbert_cancel_new(effbert_cancel **cancel);
EFFBERT_API effbert_status effbert_cancel_now(effbert_cancel *cancel);
EFFBERT_API effbert_status effbert_cancel_free(effbert_cancel *cancel);

#ifdef __cplusplus
}
#endif
#endif
