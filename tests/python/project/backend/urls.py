"""Where everything is. What the gateway protects is under /api/ and /guarded/. WebSockets are in `sockets.routing`."""

from django.contrib import admin
from django.urls import path
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from backend import answers, downloads, live, views
from backend.tokens import StaffAwareSerializer

urlpatterns = [
    path("admin/", admin.site.urls),
    path("notes/", views.NoteForm.as_view(), name="notes"),
    path("public/echo/", views.Echo.as_view()),
    path("public/answers/exact/<int:size>/", answers.exact),
    path("public/answers/unknown/<int:size>/", answers.unknown),
    path("public/answers/download/", answers.download),
    path("public/answers/versioned/<slug:version>/", answers.versioned),
    path("public/answers/cookies/", answers.cookies),
    path("public/answers/nothing/", answers.nothing),
    path("public/answers/body/", answers.body),
    path("public/paths/<path:rest>", answers.path_seen),
    path("public/events/<slug:name>/", live.events),
    path("guarded/events/<slug:name>/", live.events),
    path("public/downloads/<path:name>", downloads.shared),
    path("guarded/downloads/<path:name>", downloads.Own.as_view()),
    path("public/poll/<slug:name>/", live.poll),
    path("guarded/echo/", views.Echo.as_view()),
    path("api/token/", TokenObtainPairView.as_view(serializer_class=StaffAwareSerializer)),
    path("api/token/refresh/", TokenRefreshView.as_view()),
    path("api/me/", views.Me.as_view()),
    path("api/staff/", views.Staff.as_view()),
    path("api/vouched/", views.Vouched.as_view()),
    path("api/vouched/<str:name>/", views.Vouched.as_view()),
    path("api/uploads/<slug:name>/", views.Upload.as_view()),
    path("api/small-uploads/<slug:name>/", views.Upload.as_view()),
    path("api/streams/<slug:name>/", views.Stream.as_view()),
    path("api/streams/<slug:name>/release/<int:chunk>/", views.Release.as_view()),
]
