"""What the admin site shows."""

from django.contrib import admin

from backend.models import Note

admin.site.register(Note)
