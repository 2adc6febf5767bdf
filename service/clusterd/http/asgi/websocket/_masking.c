/* Removes the mask from what a client sends in a WebSocket (RFC 6455 section 5.3): masking.py, where there is a compiler.
 *
 * Python needs 30 us for 16 KB in this, at best, and C half a microsecond.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#define MASK_BYTES 4

static PyObject *
unmask(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyBytes_Check(arguments[0]) || !PyBytes_Check(arguments[1])
        || PyBytes_GET_SIZE(arguments[1]) != MASK_BYTES) {
        PyErr_SetString(PyExc_TypeError, "unmask() takes bytes, and a mask of 4 bytes");
        return NULL;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(arguments[0]), at = 0;
    PyObject *result = PyBytes_FromStringAndSize(NULL, size);
    if (result == NULL) {
        return NULL;
    }
    const char *data = PyBytes_AS_STRING(arguments[0]), *mask = PyBytes_AS_STRING(arguments[1]);
    char *unmasked = PyBytes_AS_STRING(result);
    uint64_t repeated, word;
    memcpy(&repeated, mask, MASK_BYTES);
    memcpy((char *)&repeated + MASK_BYTES, mask, MASK_BYTES);
    for (; at + (Py_ssize_t)sizeof word <= size; at += sizeof word) {
        memcpy(&word, data + at, sizeof word);
        word ^= repeated;
        memcpy(unmasked + at, &word, sizeof word);
    }
    for (; at < size; at++) {
        unmasked[at] = data[at] ^ mask[at % MASK_BYTES];
    }
    return result;
}

static PyMethodDef methods[] = {
    {"unmask", (PyCFunction)(void (*)(void))unmask, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_masking",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__masking(void)
{
    return PyModuleDef_Init(&module);
}
