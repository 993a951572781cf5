/* Many threads, one model: each has a session of its own. Fails if two answers differ.
 *
 *   cc threads.c $(pkg-config --cflags --libs vitrun) -pthread -o threads
 *   ./threads model.qbin THREADS RUNS */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vitrun.h>

typedef struct work {
  const vit_model* model;
  const float* image;
  const float* expected; /* NULL: `logits` is to be filled */
  float* logits;
  int runs, wrong;
  vit_status status;
} work;

static void* run(void* argument) {
  work* w = (work*)argument;
  vit_session_options options = {sizeof options, 1, 1, NULL};
  vit_session* session = NULL;
  size_t classes = (size_t)vit_model_classes(w->model), bytes = sizeof(float) * classes;
  vit_output out = {"logits", NULL, 0};
  out.data = w->logits;
  out.size = classes;
  w->status = vit_session_create(w->model, &options, &session);
  for (int i = 0; i < w->runs && !w->status; i++) {
    w->status = vit_session_run_float(session, w->image, 1, &out, 1);
    if (w->expected) w->wrong += memcmp(w->logits, w->expected, bytes) != 0;
  }
  vit_session_free(session);
  return NULL;
}

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: threads MODEL.qbin THREADS RUNS\n");
    return 2;
  }
  enum { kMost = 64 };
  int threads = atoi(argv[2]), runs = atoi(argv[3]), wrong = 0;
  vit_model* model = NULL;
  if (threads < 1 || threads > kMost || vit_model_open(argv[1], NULL, &model)) {
    fprintf(stderr, "%s\n", model ? "THREADS is 1 to 64" : vit_last_error());
    return 1;
  }
  size_t pixels = 3 * (size_t)vit_model_width(model) * (size_t)vit_model_height(model);
  size_t classes = (size_t)vit_model_classes(model);
  float* image = (float*)malloc(sizeof(float) * pixels);
  float* logits = (float*)calloc((size_t)threads + 1, sizeof(float) * classes);
  if (!image || !logits) return 1;
  for (size_t i = 0; i < pixels; i++) image[i] = (float)(i * 7919 % 2001) / 1000 - 1;

  work first = {model, image, NULL, logits, 1, 0, VIT_OK};
  run(&first);
  pthread_t handles[kMost];
  work works[kMost];
  for (int i = 0; i < threads; i++) {
    work w = {model, image, logits, logits + (size_t)(i + 1) * classes, runs, 0, first.status};
    works[i] = w;
    if (pthread_create(&handles[i], NULL, run, &works[i])) return 1;
  }
  for (int i = 0; i < threads; i++) {
    pthread_join(handles[i], NULL);
    wrong += works[i].wrong + (works[i].status != VIT_OK);
  }
  printf("%d threads x %d runs, %d wrong\n", threads, runs, wrong);
  free(logits);
  free(image);
  vit_model_close(model);
  return wrong != 0;
}
