/* Classifies a raw picture: WIDTH * HEIGHT * 3 bytes, R, G, B, row by row.
 *
 *   cc classify.c $(pkg-config --cflags --libs vitrun) -o classify
 *   ./classify model.qbin picture.rgb 640 480 */
#include <stdio.h>
#include <stdlib.h>
#include <vitrun.h>

static int report(void) {
  fprintf(stderr, "%s\n", vit_last_error());
  return 1;
}

static unsigned char* read_bytes(const char* path, size_t size) {
  unsigned char* bytes = (unsigned char*)malloc(size);
  FILE* file = fopen(path, "rb");
  size_t got = bytes && file ? fread(bytes, 1, size, file) : 0;
  if (file) fclose(file);
  if (got == size) return bytes;
  free(bytes);
  fprintf(stderr, "%s: expected %zu bytes\n", path, size);
  return NULL;
}

static void print_best(const vit_model* model, const float* logits) {
  vit_prediction best[5];
  int count = vit_model_classes(model) < 5 ? vit_model_classes(model) : 5;
  vit_top_k(logits, vit_model_classes(model), count, best);
  for (int i = 0; i < count; i++) {
    const char* label = vit_model_label(model, best[i].class_index);
    printf("%5.1f %%  %d  %s  %.9g\n", 100.0 * best[i].probability, best[i].class_index,
           label ? label : "", best[i].logit);
  }
}

int main(int argc, char** argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: classify MODEL.qbin PICTURE.rgb WIDTH HEIGHT\n");
    return 2;
  }
  int width = atoi(argv[3]), height = atoi(argv[4]);
  if (width < 1 || height < 1 || width > 32768 || height > 32768) {
    fprintf(stderr, "WIDTH and HEIGHT are 1 to 32768\n");
    return 2;
  }
  vit_model* model = NULL;
  vit_session* session = NULL;
  if (vit_model_open(argv[1], NULL, &model)) return report();
  if (vit_session_create(model, NULL, &session)) return report();
  unsigned char* rgb = read_bytes(argv[2], (size_t)width * (size_t)height * 3);
  size_t classes = (size_t)vit_model_classes(model);
  float* logits = (float*)malloc(sizeof(float) * classes);
  vit_output out = {"logits", NULL, 0};
  out.data = logits;
  out.size = classes;
  int failed = !rgb || !logits;
  if (!failed && vit_session_run_rgb(session, rgb, width, height, 3 * width, &out, 1))
    failed = report();
  if (!failed) print_best(model, logits);
  free(logits);
  free(rgb);
  vit_session_free(session);
  vit_model_close(model);
  return failed;
}
