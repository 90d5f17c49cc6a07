# One image for the web, worker and beat processes of compose.yaml, which run the demo host. For a host of your own,
# copy its code instead of demo/ and set DJANGO_SETTINGS_MODULE.
FROM python:3.14-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY workflows_tasks workflows_tasks
COPY backfill backfill
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --disable-pip-version-check '.[prometheus]' 'celery[redis]' 'psycopg[binary]==3.*' 'gunicorn==23.*'

FROM python:3.14-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin host \
 && install --directory --owner host /run/beat
COPY --from=build /venv /venv
WORKDIR /app
COPY celeryconfig.py ./
COPY demo demo
COPY deploy/wsgi.py deploy/wsgi.py
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 DJANGO_SETTINGS_MODULE=demo.settings
USER 10001
EXPOSE 8000
# The worker's and beat's commands and health checks are in compose.yaml. Exec form: SIGTERM reaches the program itself.
CMD ["gunicorn", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "16", "--access-logfile", "-", "deploy.wsgi"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8000/', timeout=4)"]
