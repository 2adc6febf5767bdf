"""Django as it is used: a template, a table in SQLite, and a session in a signed cookie, which counts the visits."""

import fcntl
import os
from typing import Any

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection, models
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path

DATABASE = os.environ["BENCH_FILE"] + ".sqlite"
PAGE = """<!doctype html><title>{{ title }}</title>
<ul>{% for each in entries %}
<li class="{% cycle 'odd' 'even' %}">{{ each.number }}: {{ each.text|title }}</li>
{% endfor %}</ul>
<p>{{ visits }} visit{{ visits|pluralize }}</p>"""

LOADER = ("django.template.loaders.cached.Loader", [("django.template.loaders.locmem.Loader", {"page.html": PAGE})])

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE, "OPTIONS": {"timeout": 20}}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for a measurement",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"loaders": [LOADER]}}],
)
django.setup()


class Entry(models.Model):  # type: ignore[misc,unused-ignore]
    """A row."""

    number = models.IntegerField()
    text = models.CharField(max_length=40)

    class Meta:
        """Belongs to no installed application."""

        app_label = "bench"
        db_table = "entries"


def page(request: HttpRequest) -> HttpResponse:
    """Ten rows in a list."""
    visits = request.session["visits"] = request.session.get("visits", 0) + 1
    entries = Entry.objects.filter(number__lt=10).order_by("number")
    given: dict[str, Any] = {"title": "Entries", "entries": entries, "visits": visits}
    return render(request, "page.html", given)


urlpatterns = [path("", page)]


def fill() -> None:
    """Make the table."""
    if "entries" in connection.introspection.table_names():
        return
    with connection.schema_editor() as editor:
        editor.create_model(Entry)
    Entry.objects.bulk_create(Entry(number=number, text=f"entry number {number}") for number in range(100))


# Each worker comes here, or one process for all of them: the first one makes it.
with open(f"{DATABASE}.lock", "w", encoding="utf-8") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    fill()
    connection.close()
app = get_wsgi_application()
