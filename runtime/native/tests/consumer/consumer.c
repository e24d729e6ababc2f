/* A C89 program that uses an installed effbert. */
#include <effbert.h>
#include <stdio.h>

int main(void) {
  effbert_session *session;
  printf("effbert %s\n", effbert_version());
  return effbert_open("no such folder", NULL, &session) == EFFBERT_BUNDLE ? 0 : 1;
}
