# Hardshell's image: the compiled program and its production packages, nothing else. It serves as sidecar ("serve") and,
# with another entrypoint, as the portal of a pod. Only instructions that the classic builder knows, so that it builds
# everywhere; nothing in it depends on the processor, so one file serves amd64 and arm64.
#
# The base is pinned by the digest of its multi-platform index. Another base, such as a mirror or a newer pin:
#   docker build --build-arg BASE=registry.example/node:24-bookworm-slim@sha256:… .
ARG BASE=node:24.21.0-bookworm-slim@sha256:2fe369e969550cde8e867afc3fe370b260140cab4a23d467074295b42163d553

FROM ${BASE} AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
# The same lockfile, now without the tools and without the Node that npm packages carry for older machines.
RUN node node_modules/typescript/bin/tsc -p tsconfig.build.json \
 && npm prune --omit=dev --omit=optional --no-audit --no-fund

FROM ${BASE}
# The user that runs it. A machine whose secrets belong to another user builds with that one.
ARG UID=1000
ENV NODE_ENV=production HARDSHELL_HOME=/var/lib/hardshell
WORKDIR /app
COPY package.json LICENSE ./
COPY --from=build /build/node_modules ./node_modules
COPY --from=build /build/dist ./dist
# State belongs to the user alone. What can install packages has no business beside a program that needs none.
RUN mkdir -p /var/lib/hardshell /portal \
 && chown ${UID}:${UID} /var/lib/hardshell /portal \
 && chmod 0700 /var/lib/hardshell /portal \
 && rm -rf /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /opt/yarn-*
USER ${UID}:${UID}
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["node", "/app/dist/main.js", "health"]
ENTRYPOINT ["node", "/app/dist/main.js"]
CMD ["serve"]
