/* The search of Knuth, Morris and Pratt: no byte is looked at again, so nothing of a piece has to be kept. */
#include "needle.h"

#include <string.h>

void needle_set(struct needle *needle, const char *text)
{
    *needle = (struct needle){.text = text, .len = (uint8_t)strlen(text)};
    for (uint8_t i = 1, fits = 0; i < needle->len; i++) {
        while (fits && text[fits] != text[i]) fits = needle->back[fits];
        if (text[fits] == text[i]) fits++;
        needle->back[i + 1] = fits;
    }
}

bool needle_find(const struct needle *needle, uint8_t *at, const char *data, size_t len)
{
    for (size_t i = 0; i < len && *at < needle->len; i++) {
        while (*at && needle->text[*at] != data[i]) *at = needle->back[*at];
        if (needle->text[*at] == data[i]) ++*at;
    }
    return *at == needle->len;
}
