// musl's printf knows floating-point numbers, wide characters and files: 9 KiB. Those who call it here (LMDB, mbedTLS, musl's
// own inet_ntop) print texts and integers into memory, and this serves them in its place.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef __GLIBC__

struct output {
    char *bytes;
    size_t room, count;
};

static void put(struct output *out, char byte) {
    if (out->count + 1 < out->room) out->bytes[out->count] = byte;
    out->count++;
}

static void put_padded(struct output *out, const char *text, size_t count, int width, char padding) {
    for (int missing = width - (int)count; missing > 0; missing--) put(out, padding);
    for (size_t index = 0; index < count; index++) put(out, text[index]);
}

// Conversions d i u x X s c and %, with a width, leading zeros, a precision of texts and numbers, and the sizes l ll z.
int vsnprintf(char *bytes, size_t room, const char *format, va_list values) {
    struct output out = {bytes, room, 0};
    for (; *format; format++) {
        if (*format != '%') {
            put(&out, *format);
            continue;
        }
        int width = 0, precision = -1, is_long = 0, *number = &width;
        char padding = format[1] == '0' ? '0' : ' ';
        for (;;) {
            format++;
            if (*format == '*') *number = va_arg(values, int);
            else if (*format >= '0' && *format <= '9') *number = *number * 10 + *format - '0';
            else if (*format == '.') *(number = &precision) = 0;
            else if (*format == 'l') is_long++;
            else if (*format == 'z') is_long = 1;
            else break;
        }
        char digits[24];
        char *digit = digits + sizeof digits;
        if (*format == 's') {
            const char *text = va_arg(values, const char *);
            put_padded(&out, text, precision < 0 ? strlen(text) : strnlen(text, (size_t)precision), width, ' ');
        } else if (*format == 'c') {
            *--digit = (char)va_arg(values, int);
            put_padded(&out, digit, 1, width, ' ');
        } else if (strchr("diuxX", *format) && *format) {
            int is_signed = *format == 'd' || *format == 'i';
            unsigned long long value = is_long > 1 ? va_arg(values, unsigned long long)
                : is_long ? (is_signed ? (unsigned long long)va_arg(values, long) : va_arg(values, unsigned long))
                : is_signed ? (unsigned long long)va_arg(values, int) : va_arg(values, unsigned);
            int is_negative = is_signed && (long long)value < 0;
            if (is_negative) value = -value;
            unsigned base = *format == 'x' || *format == 'X' ? 16 : 10;
            do {
                *--digit = (*format == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[value % base];
                value /= base;
            } while (value);
            while (digits + sizeof digits - digit < precision && digit > digits + 1) *--digit = '0';
            if (is_negative) {
                if (padding == '0') {
                    put(&out, '-');
                    width--;
                } else {
                    *--digit = '-';
                }
            }
            put_padded(&out, digit, (size_t)(digits + sizeof digits - digit), width, padding);
        } else if (*format == '%') {
            put(&out, '%');
        } else {
            break;
        }
    }
    if (room) bytes[out.count < room ? out.count : room - 1] = 0;
    return (int)out.count;
}

int snprintf(char *bytes, size_t room, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int count = vsnprintf(bytes, room, format, values);
    va_end(values);
    return count;
}

int sprintf(char *bytes, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int count = vsnprintf(bytes, INT32_MAX, format, values);
    va_end(values);
    return count;
}

// All that is written so is LMDB's last words.
int fprintf(FILE *file, const char *format, ...) {
    (void)file;
    char line[512];
    va_list values;
    va_start(values, format);
    int count = vsnprintf(line, sizeof line, format, values);
    va_end(values);
    return (int)write(2, line, count < (int)sizeof line ? (size_t)count : sizeof line - 1);
}

#endif
