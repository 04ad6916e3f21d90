"""The one thing this application stores itself."""

from django.db import models


class Note(models.Model):
    """A line left through the form or through the admin site."""

    text = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.text
