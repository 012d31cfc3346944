@echo off
rem The guide's one-step test: quick_async_test.bat [sync|async|both], async by default.
rem Installs rayembed into .venv, measures for about two minutes, and draws what was saved. With no endpoint in
rem config\phase1_config.yaml it is a local server that is tested.
setlocal
cd /d "%~dp0.."

set MODE=%~1
if "%MODE%"=="" set MODE=async
if "%MODE%"=="sync" goto install
if "%MODE%"=="async" goto install
if "%MODE%"=="both" goto install
echo quick_async_test.bat: no mode '%MODE%'; choose sync, async or both 1>&2
exit /b 2

:install
if exist .venv\Scripts\python.exe goto update
py -3 -m venv .venv || python -m venv .venv || exit /b 1

:update
.venv\Scripts\python.exe -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . || exit /b 1

.venv\Scripts\python.exe -m jobs bench --mode %MODE%
set STATUS=%ERRORLEVEL%
if %STATUS% LEQ 3 if not %STATUS%==2 .venv\Scripts\python.exe -m jobs compare
exit /b %STATUS%
